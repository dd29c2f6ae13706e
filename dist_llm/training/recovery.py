"""Going on with a run when ranks have died.

Those that are left hold the same replica, but may be a step apart: the furthest one's state becomes that of all. The
batch of a step is a function of the step, so it is divided anew among fewer ranks, and what was interrupted is done
once more: no sequence is left out or seen twice. With a deterministic strategy every bit is as if nobody had died.

Where the dead have taken a part of the state along (sharded, local), all go back to the last checkpoint.

The first of the ranks that can write to the run folder holds it from then on.
"""

import dataclasses
import time
from typing import TYPE_CHECKING

from dist_llm.errors import RankLostError, RunError
from dist_llm.training.checkpoint import find_checkpoint, load_checkpoint
from dist_llm.training.checkpoint_state import read_state
from dist_llm.training.metrics import MetricsReader
from dist_llm.training.position import furthest
from dist_llm.training.run_dir import may_write
from dist_llm.training.step import TrainStep

if TYPE_CHECKING:
    from dist_llm.training.run import Run

LIMIT_S = 60.0  # after which a rank that hangs in it is given up


def recover(run: "Run") -> None:
    """Let the ranks that are left go on; those that die meanwhile are left behind too.

    Raises
    ------
    RunError
        No rank that is left can write to the run folder.
    UserError
        There is no good checkpoint to go back to, where one is needed.
    """
    start, comm = time.perf_counter(), run.comm
    interrupted = run.position.step + run.position.settled
    while True:
        try:
            with comm.watchdog.phase("recovery", LIMIT_S):
                comm.shrink(may_write(run.folder))
                alive = comm.allgather(run.origin)
                lost = sorted(set(run.alive) - set(alive))
                comm.watchdog.left_behind(lost)
                origin = _take_up(run)
            break
        except RankLostError:
            continue
    run.alive = alive
    seconds = time.perf_counter() - start
    loss = {"ranks": lost, "in_step": interrupted, "seconds": round(seconds, 4)}
    run.position = dataclasses.replace(run.position, losses=[*run.position.losses, loss])
    run.progress.say(
        f"lost rank {', '.join(map(str, lost))} in step {interrupted}: going on after step {run.position.step}{origin} "
        f"with {comm.size} of {run.began_with} ranks, {seconds:.2f} s later"
    )


def _take_up(run: "Run") -> str:
    """Make one state of those of the ranks; return where it comes from, in words."""
    origin = ""
    if not run.comm.on_rank_0(lambda: may_write(run.folder)):
        raise RunError(f"no rank that is left can write to {run.folder}", agreed=True)
    positions = run.comm.allgather(run.position)
    if run.train_step.strategy.replicated:
        run.train_step.rejoin()
        run.position = furthest(positions)
    else:
        origin = _go_back(run)
    run.open_files()
    return origin


def _go_back(run: "Run") -> str:
    """Go back to the last checkpoint."""
    old, comm = run.train_step, run.comm
    old.close()
    run.train_step = TrainStep(run.config, old.loader, comm, old.model)

    def find() -> tuple[str, int]:
        checkpoint = find_checkpoint(run.folder)
        return checkpoint.name, read_state(checkpoint)["step"]

    name, step = comm.on_rank_0(find)
    checkpoint = run.folder / "checkpoints" / name
    parts = comm.on_every_rank(lambda: load_checkpoint(checkpoint, run.config.model)[0] if comm.rank == 0 else {})
    run.train_step.load_state_dict(parts, step)
    # The records of steps that are taken again are dropped, but not what they tell of lost ranks.
    records = comm.on_rank_0(lambda: [r for r in MetricsReader(run.folder).new_records("lost") if r["step"] > step])
    losses = [*(loss for record in records for loss in record["lost"]), *run.position.losses]
    run.position = dataclasses.replace(run.position_in_folder(step), losses=losses)
    return f", where {checkpoint} was written,"
