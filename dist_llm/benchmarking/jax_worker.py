"""The same training step in JAX: forward, backward, clipping and AdamW compiled into one program.

The model is an independent one that the tests hold ours to. As with PyTorch, the batch goes in as a whole or in
micro-batches, whichever is faster here.
"""

import importlib.util
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import dist_llm
from dist_llm.benchmarking.numpy_worker import WARM_UP_STEPS, batches, timed
from dist_llm.benchmarking.torch_worker import MICRO_BATCH_SIZE, TRIES
from dist_llm.config import Config, ModelConfig
from dist_llm.model.llama import Llama
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.seeding import generator

ORACLE = Path(dist_llm.__file__).parent.parent / "tests" / "oracles" / "jax_llama.py"


def why_not(config: ModelConfig) -> str | None:
    """Return why JAX cannot take part; None if it can."""
    if importlib.util.find_spec("jax") is None:
        return "jax is not installed (pip install '.[bench]')"
    if not ORACLE.exists():
        return "the peers' model is tests/oracles/jax_llama.py, and no tests folder lies beside the package"
    if config.dropout:
        return "the peers' model has no dropout: compare without --model.dropout"
    return None


def prepare(config: Config, steps: int) -> tuple[str, Callable[[], dict[str, Any]]]:
    """Build, compile and warm up the peer; as `numpy_worker.prepare`."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    keep_freed_memory()
    import jax

    rows = config.train.batch_size
    sizes = [size for size in (rows, MICRO_BATCH_SIZE) if rows % size == 0]
    peers = {size: _Peer(config, size) for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in peers}
    for _ in range(1 + TRIES):
        for size, peer in peers.items():
            seconds[size].append(timed(peer.step, 1)["seconds"])
    best = min(peers, key=lambda size: min(seconds[size][1:]))  # the first try compiles
    peer = peers[best]
    del peers
    timed(peer.step, WARM_UP_STEPS)
    how = "whole batch" if best == rows else f"micro-batches of {best}"
    return f"{how}, jax {jax.__version__}", lambda: timed(peer.step, steps, rows * config.model.max_seq_len)


class _Peer:
    """Parameters, moments, batches and the compiled step."""

    def __init__(self, config: Config, micro_batch_size: int) -> None:
        import jax

        spec = importlib.util.spec_from_file_location("jax_llama", ORACLE)
        assert spec is not None
        assert spec.loader is not None
        oracle: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(oracle)

        assert config.model.vocab_size is not None
        ours = Llama(config.model, config.model.vocab_size)
        ours.params.initialize(generator(config.train.seed, "weights"))
        params = {p.name: jax.numpy.array(p.data) for p in ours.params}
        m, v = ({name: jax.numpy.zeros_like(p) for name, p in params.items()} for _ in range(2))
        self._state = (params, m, v)
        loader = batches(config)
        self._batches = ((step + 1, *loader.batch(step, 0, 1)) for step in count())

        def train_step(state: Any, t: Any, tokens: Any, targets: Any) -> Any:
            params, m, v = state
            n = len(tokens) // micro_batch_size

            def add(grads: Any, micro: Any) -> Any:
                new = jax.grad(oracle.loss)(params, *micro, config.model)
                return jax.tree.map(lambda a, b: a + b / n, grads, new), None

            if n == 1:
                grads = jax.grad(oracle.loss)(params, tokens, targets, config.model)
            else:
                zeros = jax.tree.map(jax.numpy.zeros_like, params)
                micros = (part.reshape(n, micro_batch_size, -1) for part in (tokens, targets))
                grads, _ = jax.lax.scan(add, zeros, tuple(micros))
            grads = oracle.clipped(grads, config.optim.grad_clip or float("inf"))
            return oracle.adamw(params, grads, m, v, t, config.optim.lr, config.optim)

        self._train_step = jax.jit(train_step, donate_argnums=0)

    def step(self) -> None:
        """Take one training step, and wait until it is done."""
        import jax

        t, tokens, targets = next(self._batches)
        self._state = jax.block_until_ready(self._train_step(self._state, np.float32(t), tokens, targets))
