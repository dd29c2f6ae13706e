"""The same training step in JAX: forward, backward, clipping and AdamW compiled into one program.

The model is an independent one that the tests hold ours to. The baseline gets what is best for it, whichever is faster
here: YNNPACK for XLA's matrix products or not; the batch as a whole, in micro-batches, or divided among as many of
XLA's devices as there are cores, one sequence at a time in each.
"""

import math
import os
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from dist_llm.benchmarking.training_torch import MICRO_BATCH_SIZE
from dist_llm.benchmarking.turn import (
    WARM_UP_STEPS,
    Job,
    Warm,
    batches,
    fastest,
    forget_memory,
    initial_model,
    timed,
    tries,
)
from dist_llm.config import Config
from dist_llm.parallel.allocator import keep_freed_memory

WITHOUT_YNNPACK = {"xla_cpu_experimental_ynn_fusion_type": ""}


class Way(NamedTuple):
    """One way to compile the step."""

    devices: int  # each works on its shard of the batch; a single one uses all cores for each operation by itself
    micro_batch_size: int  # sequences a device works on at once
    ynnpack: bool  # whether XLA may use this library; if not, it uses Eigen


def make(job: Job) -> Warm:
    """Build, compile and warm up the baseline."""
    # Both are read when JAX starts, so it must not have started yet.
    os.environ["JAX_PLATFORMS"] = "cpu"
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={job.threads}".strip()
    keep_freed_memory()
    import jax

    config, rows = job.config, job.config.train.batch_size
    micro_batch_size = rows if rows % MICRO_BATCH_SIZE else MICRO_BATCH_SIZE
    ways = [Way(1, micro_batch_size, ynnpack) for ynnpack in _ynnpack_or_not()]
    baseline = fastest([_Baseline(config, way) for way in ways], _Baseline.step, tries(config))
    others = {Way(1, rows, baseline.way.ynnpack), Way(math.gcd(rows, jax.device_count()), 1, baseline.way.ynnpack)}
    ways = [*(others - {baseline.way})]
    baseline = fastest([baseline, *(_Baseline(config, way) for way in ways)], _Baseline.step, tries(config))
    forget_memory()
    timed(baseline.step, WARM_UP_STEPS)
    way = baseline.way
    how = "whole batch" if way.micro_batch_size == rows else f"micro-batches of {way.micro_batch_size}"
    how += f" on each of {way.devices} devices" * (way.devices > 1) + ", without YNNPACK" * (not way.ynnpack)
    return f"{how}, jax {jax.__version__}", lambda: timed(baseline.step, job.steps, rows * config.model.max_seq_len)


def _ynnpack_or_not() -> tuple[bool, ...]:
    """Return what there is to choose from: other versions of XLA do not know the option."""
    import jax

    try:
        jax.jit(lambda x: x, compiler_options=WITHOUT_YNNPACK)(0.0)
    except jax.errors.JaxRuntimeError:
        return (True,)
    return (True, False)


class _Baseline:
    """Parameters, moments, batches and the step, compiled in a `way`."""

    def __init__(self, config: Config, way: Way) -> None:
        import jax
        from jax.sharding import NamedSharding, PartitionSpec

        from dist_llm.baselines import jax_llama

        self.way = way
        params = initial_model(config).params.state_dict()
        m, v = ({name: np.zeros_like(p) for name, p in params.items()} for _ in range(2))
        loader = batches(config)
        self._batches = ((np.float32(step + 1), *loader.batch(step, 0, 1)) for step in count())

        def train_step(state: Any, t: Any, tokens: Any, targets: Any) -> Any:
            params, m, v = state
            n = len(tokens) // way.micro_batch_size

            def add(grads: Any, micro: Any) -> Any:
                new = jax.grad(jax_llama.loss)(params, *micro, config.model)
                return jax.tree.map(lambda a, b: a + b / n, grads, new), None

            if n == 1:
                grads = jax.grad(jax_llama.loss)(params, tokens, targets, config.model)
            else:
                zeros = jax.tree.map(jax.numpy.zeros_like, params)
                micros = (part.reshape(n, way.micro_batch_size, -1) for part in (tokens, targets))
                grads, _ = jax.lax.scan(add, zeros, tuple(micros))
            if way.devices > 1:
                grads = jax.lax.pmean(grads, "device")
            grads = jax_llama.clipped(grads, config.optim.grad_clip or float("inf"))
            return jax_llama.adamw(params, grads, m, v, t, config.optim.lr, config.optim)

        # The state is the same on every device, as with data parallelism anywhere; each has its rows of the batch.
        mesh = jax.sharding.Mesh(np.array(jax.devices()[: way.devices]), ("device",))
        same, rows = PartitionSpec(), PartitionSpec("device")
        specs = (same, same, rows, rows)
        self._train_step = jax.jit(
            jax.shard_map(train_step, mesh=mesh, in_specs=specs, out_specs=same, check_vma=False),
            in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
            donate_argnums=0,
            compiler_options=None if way.ynnpack else WITHOUT_YNNPACK,
        )
        self._state = jax.device_put((params, m, v), NamedSharding(mesh, same), may_alias=False)

    def step(self) -> None:
        """Take one training step, and wait until it is done."""
        import jax

        self._state = jax.block_until_ready(self._train_step(self._state, *next(self._batches)))
