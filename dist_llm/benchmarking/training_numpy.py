"""The training step of this project: the very `TrainStep` that trains, on tokens drawn at random."""

from collections.abc import Mapping
from dataclasses import replace

from dist_llm.benchmarking.turn import WARM_UP_STEPS, Answer, Job, Warm, batches, timed
from dist_llm.fast.threads import use_threads
from dist_llm.measuring.phases import Phases
from dist_llm.measuring.tables import count
from dist_llm.model.micro_batch import micro_batch_size
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.placement import place
from dist_llm.partition import shard
from dist_llm.training.precision import settled
from dist_llm.training.step import TrainStep
from dist_llm.training.step_result import StepResult


def make(job: Job, changes: Mapping[str, Mapping[str, str]] | None = None) -> Warm:
    """Build model, optimizer and strategy, and warm them up.

    Parameters
    ----------
    job : Job
    changes : mapping, optional
        Of the configuration: ``changes[section][key]``.
    """
    comm = job.comm
    config = settled(job.config.replace(changes or {}), comm)
    keep_freed_memory()
    placement = place(comm, job.threads)
    phases = Phases()
    use_threads(placement.threads)
    step = TrainStep(config, batches(config), comm, observer=phases)
    rows = shard(config.train.batch_size, comm.rank, comm.size)
    n_rows = rows.stop - rows.start

    def turn() -> Answer:
        phases.seconds.clear()
        results: list[StepResult] = []
        answer = timed(lambda: results.append(step()), job.steps, n_rows * config.model.max_seq_len)
        answer = replace(answer, phases=phases.of(answer.seconds))
        if comm.size == 1:
            return answer
        exposed_s, sent = (sum(getattr(r, name) for r in results) for name in ("comm_exposed_s", "comm_bytes"))
        return replace(answer, exposed_s=exposed_s, bytes_sent=sent)

    timed(step, WARM_UP_STEPS)
    threads = count(placement.threads, "BLAS thread") + " each" * (comm.size > 1)
    size = min(n_rows, micro_batch_size(config))
    return f"micro-batches of {size}, {placement.blas}, {threads}", turn
