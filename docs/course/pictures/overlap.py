"""How sums follow a backward pass: in buckets, and as one, over the emulated network of the page."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dist_llm import LanguageModel
from dist_llm.measuring.plotting import INK, SERIES, Drawing, Label
from dist_llm.parallel.cost import ETHERNET
from dist_llm.parallel.overlapped import chosen_bytes
from dist_llm.parallel.registry import make_strategy
from dist_llm.parallel.topology import Topology
from docs.course.pictures._page import names_of

TIMES = 9
Stairs = list[tuple[float, float]]  # milliseconds, and the megabytes that are done then


def measure(run: LanguageModel, name: str, bucket_bytes: int) -> tuple[Stairs, Stairs]:
    """Return when gradients were final, and when their sums ended, in the fastest of some passes."""
    model, params = run.model, run.model.params
    tokens = np.random.default_rng(1).integers(0, model.vocab_size, (4, model.config.max_seq_len + 1))
    comm = names_of("15-overlap.md", "network.py")["Emulated"]()
    config = run.config.replace({"parallel": {"strategy": name, "bucket_bytes": bucket_bytes}}).parallel
    strategy = make_strategy(comm, params.data, params.grad, config)
    passes = []
    for _ in range(TIMES):
        _, cache = model.loss(tokens[:, :-1], tokens[:, 1:])
        final, sums = Stairs([(0, 0)]), Stairs([(0, 0)])
        strategy.begin()
        start_s = time.perf_counter()

        def ready(offset: int, start_s: float = start_s, final: Stairs = final, sums: Stairs = sums) -> None:
            final.append((1000 * (time.perf_counter() - start_s), (params.size - offset) * 4e-6))
            strategy.on_grad_ready(offset)

        def begin(array: np.ndarray, start_s: float = start_s, sums: Stairs = sums) -> Any:
            pending = type(comm).iallreduce_(comm, array)
            sums.append((1000 * (pending.end_s - start_s), sums[-1][1] + array.nbytes / 1e6))
            return pending

        comm.iallreduce_ = begin
        model.loss_backward(1 / tokens.size, cache, ready)
        strategy.reduce()
        passes.append((final, sums))
    strategy.close()
    return min(passes, key=lambda stairs: stairs[0][-1])


def draw(run: LanguageModel) -> Drawing:
    """Draw the megabytes that are final, and those that are summed up, over time."""
    n_bytes = run.model.params.grad.nbytes
    size = chosen_bytes(Topology(2, 2, ETHERNET), n_bytes)
    final, sums = measure(run, "overlapped", size)
    alone, one = measure(run, "blocking", size)
    (pass_ms, _), (sums_ms, megabytes) = final[-1], sums[-1]
    one_ms = pass_ms + one[-1][0] - alone[-1][0]  # behind a pass that took as long

    def stairs(axes: Any) -> Sequence[Label]:
        for points, color in ((final, INK), (sums, SERIES[0])):
            axes.step(*np.transpose(points), where="post", color=color)
        axes.plot([pass_ms, one_ms], [0, megabytes], color=SERIES[1])
        axes.axvline(pass_ms, color=INK, linewidth=1, linestyle=":")
        axes.text(pass_ms - 2, megabytes * 1.1, "the pass ends", ha="right", va="center", color=INK)
        axes.set(xlabel="milliseconds since the backward pass began", ylabel="megabytes of gradients")
        axes.set_xlim(0, 1.03 * one_ms)
        axes.set_ylim(-0.02 * megabytes, 1.2 * megabytes)
        axes.grid(visible=True)
        x, y = np.transpose(sums)[:, len(sums) // 2]
        buckets, behind = f"summed in {len(sums) - 1} buckets:", f"\n{one_ms - pass_ms:.0f} ms behind"
        return [
            Label("final", *final[2], INK, needed=True),
            Label(f"{buckets}\n{sums_ms - pass_ms:.0f} ms behind the pass", x, y, SERIES[0], needed=True),
            Label(f"as one:{behind}", (pass_ms + one_ms) / 2, megabytes / 2, SERIES[1], needed=True),
        ]

    words = "Megabytes over time: gradients become final block by block; sums in buckets follow, one sum comes behind."
    return Drawing("sums beside the backward pass", words, 3.0, stairs)
