#!/usr/bin/env bash
# Measure scaling under Slurm, one job for each point, from the project's folder on a login node:
#
#   ./launch/slurm-scaling.sh FOLDER 1x1,2x1,4x1,8x1,...,128x1 [ARGUMENTS OF dist_llm.scaling]
#   SBATCH='--partition=compute --time=30' ./launch/slurm-scaling.sh runs/study 1x1,32x1,64x1,128x1
#
# Points are ranks x threads, the smallest first. Each job measures one of them and the smallest, on its own nodes, into
# FOLDER/part-RxT.json; the last job merges what has come of them into FOLDER/report.html. A job that fails, or that
# never comes out of the queue, is a point that is missing: submit it again with its `--part`, and merge again. Jobs have
# their nodes for themselves: what shares a node with others measures the others.
# Make .venv beforehand, where the nodes see it: ./launch/setup.sh; and prepare the data once, so that no node waits for
# it: python -m dist_llm.prepare

set -euo pipefail
folder=${1:?usage: ./launch/slurm-scaling.sh FOLDER RxT,RxT,... [ARGUMENTS OF dist_llm.scaling]}
points=${2:?which points, ranks x threads: 1x1,2x1,4x1}
shift 2
export PATH="$PWD/.venv/bin:$PATH"
mkdir -p "$folder"
read -ra options <<<"${SBATCH:-}"

jobs=()
IFS=, read -ra all <<<"$points"
for point in "${all[@]:1}"; do
    command=$(printf '%q ' python -m dist_llm.scaling "--points=$points" "--part=$point" "--out=$folder" "$@")
    jobs+=("$(sbatch --parsable --exclusive --job-name="scaling-$point" --output="$folder/part-$point.out" \
        --ntasks="${point%x*}" --cpus-per-task="${point#*x}" ${options[@]+"${options[@]}"} --wrap "$command")")
done
dependency=$(IFS=:; echo "afterany:${jobs[*]}")
merge=$(printf '%q ' python -m dist_llm.scaling "--merge" "$folder" "--out=$folder")
sbatch --job-name=scaling-merge --output="$folder/merge.out" --dependency="$dependency" --ntasks=1 \
    ${options[@]+"${options[@]}"} --wrap "$merge"
