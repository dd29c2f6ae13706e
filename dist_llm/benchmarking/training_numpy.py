"""The training step of this project: the very `TrainStep` that trains, on tokens drawn at random."""

from dataclasses import replace

from dist_llm.benchmarking.turn import WARM_UP_STEPS, Answer, Job, Warm, batches, timed
from dist_llm.measuring.phases import Phases
from dist_llm.measuring.tables import count
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.parallel.placement import place
from dist_llm.partition import shard
from dist_llm.training.step import TrainStep
from dist_llm.training.step_result import StepResult


def make(job: Job, **parallel: str) -> Warm:
    """Build model, optimizer and strategy, and warm them up; `parallel` changes the configuration's section."""
    comm, config = job.comm, job.config.replace({"parallel": parallel})
    keep_freed_memory()
    placement = place(comm, job.threads)
    phases = Phases()
    step = TrainStep(config, batches(config), comm, observer=phases)
    rows = shard(config.train.batch_size, comm.rank, comm.size)
    tokens = (rows.stop - rows.start) * config.model.max_seq_len

    def turn() -> Answer:
        phases.seconds.clear()
        results: list[StepResult] = []
        answer = timed(lambda: results.append(step()), job.steps, tokens)
        answer = replace(answer, phases=phases.of(answer.seconds))
        if comm.size == 1:
            return answer
        exposed_s, sent = (sum(getattr(r, name) for r in results) for name in ("comm_exposed_s", "comm_bytes"))
        return replace(answer, exposed_s=exposed_s, bytes_sent=sent)

    timed(step, WARM_UP_STEPS)
    threads = count(placement.threads, "BLAS thread") + " each" * (comm.size > 1)
    return f"micro-batches of {config.train.micro_batch_size}, {placement.blas}, {threads}", turn
