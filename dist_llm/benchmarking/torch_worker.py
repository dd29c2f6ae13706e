"""The same training step in PyTorch, by the independent model that the tests hold ours to.

The peer gets what is best for it: fused AdamW or not, the whole batch at once or micro-batches of four, whichever is
faster here; rotary tables made once; and the allocator's setting that serves us. The rest is as with us: the batches,
the clipping, AdamW with decay on the matrices only.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

from dist_llm.benchmarking.contestants import Contestant
from dist_llm.benchmarking.numpy_worker import WARM_UP_STEPS, batches, timed
from dist_llm.benchmarking.peers import import_oracle
from dist_llm.config import Config, ModelConfig
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.shares import share

MICRO_BATCH_SIZE, TRIES = 4, 3


def prepare(
    contestant: Contestant, config: Config, steps: int, rank: int, meeting: str
) -> tuple[str, Callable[[], dict[str, Any]]]:
    """Build and warm up the peer; as `numpy_worker.prepare`.

    Parameters
    ----------
    rank : int
        Among the contestant's processes.
    meeting : str
        A file that does not exist yet, by which the processes find each other.
    """
    # Compilation in this process: a pool of compilers would stay, and wait for more work.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    import torch

    keep_freed_memory()
    torch.set_num_threads(contestant.threads)
    torch.manual_seed(config.train.seed)
    peer = _Peer(contestant, config, rank, meeting)
    fused = peer.choose_optimizer()
    micro_batch_size = peer.choose_micro_batch_size()
    timed(peer.step, WARM_UP_STEPS)
    size = "whole batch" if micro_batch_size == peer.rows else f"micro-batches of {micro_batch_size}"
    return f"{size}, {fused} AdamW, torch {torch.__version__}", lambda: timed(peer.step, steps, peer.tokens)


class _Peer:
    """Model, optimizer and batches of one process.

    Attributes
    ----------
    rows : int
        Sequences of this process in a step.
    tokens : int
        Of this process in a step.
    """

    def __init__(self, contestant: Contestant, config: Config, rank: int, meeting: str) -> None:
        import torch

        self._torch, self._config, self._world_size = torch, config, contestant.processes
        rows = share(config.train.batch_size, rank, self._world_size)
        self.rows = self._micro_batch_size = rows.stop - rows.start
        self.tokens = self.rows * config.model.max_seq_len
        loader = batches(config)
        self._batches = ((torch.from_numpy(a).long() for a in loader.batch(s, rank, self._world_size)) for s in count())
        self._bf16 = contestant.variant == "bf16"

        oracle = load_oracle(config.model)
        model = oracle.TorchLlama(config.model, config.model.vocab_size)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=config.model.init_std)
        self._parameters = list(model.parameters())
        self._optimizer = oracle.torch_adamw(model, config.optim)

        class Loss(torch.nn.Module):  # what is compiled, or wrapped by DistributedDataParallel, is a forward()
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, tokens: Any, targets: Any) -> Any:
                return self.model.loss(tokens, targets)

        self._loss: Any = Loss()
        self._no_sync: Callable[[], AbstractContextManager] = nullcontext
        if contestant.variant == "compile":
            self._loss = torch.compile(self._loss, dynamic=False)
        elif contestant.variant == "ddp":
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{meeting}", rank=rank, world_size=self._world_size
            )
            self._loss = torch.nn.parallel.DistributedDataParallel(self._loss, gradient_as_bucket_view=True)
            self._no_sync = self._loss.no_sync

    def step(self) -> None:
        """Take one training step."""
        self._gradients()
        self._torch.nn.utils.clip_grad_norm_(self._parameters, self._config.optim.grad_clip or float("inf"))
        self._optimizer.step()

    def _gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        tokens, targets = next(self._batches)
        for start in range(0, self.rows, self._micro_batch_size):
            micro = slice(start, start + self._micro_batch_size)
            last = start + self._micro_batch_size >= self.rows
            # DistributedDataParallel takes the mean over processes: once, after the last micro-batch.
            with nullcontext() if last else self._no_sync():
                with self._torch.autocast("cpu", self._torch.bfloat16, enabled=self._bf16):
                    loss = self._loss(tokens[micro], targets[micro])
                weight = len(tokens[micro]) * self._world_size / self._config.train.batch_size
                (loss * weight).backward()

    def choose_optimizer(self) -> str:
        """Use the faster of PyTorch's AdamWs, and return which it is."""
        self._gradients()
        steps = {}
        for fused in (False, True):
            for group in self._optimizer.param_groups:
                group["fused"], group["foreach"] = fused, None
            self._optimizer.step()
            steps["fused" if fused else "plain"] = timed(self._optimizer.step, 5)["seconds"]
        choice = self._agree(min(steps, key=lambda name: steps[name]))
        for group in self._optimizer.param_groups:
            group["fused"] = choice == "fused"
        return choice

    def choose_micro_batch_size(self) -> int:
        """Use the faster of micro-batches and the whole batch, and return its size."""
        sizes = [self.rows, min(MICRO_BATCH_SIZE, self.rows)]
        seconds: list[list[float]] = [[], []]
        for _ in range(1 + TRIES):
            for size, record in zip(sizes, seconds, strict=True):
                self._micro_batch_size = size
                record.append(timed(self.step, 1)["seconds"])
        whole, micro = (min(record[1:]) for record in seconds)  # the first try compiles
        self._micro_batch_size = sizes[self._agree(int(micro < whole))]
        return self._micro_batch_size

    def _agree(self, choice: Any) -> Any:
        """Return the choice of the first process."""
        choices = [choice]
        if self._torch.distributed.is_initialized():
            self._torch.distributed.broadcast_object_list(choices)
        return choices[0]


def load_oracle(config: ModelConfig) -> Any:
    """Import the model, and give it rotary tables.

    By itself it computes the angles at every call, in double precision. That is plain to read and costs little, but
    torch.compile merges it into the loops over all sequences and heads, and is slowed down by it.
    """
    import torch

    module = import_oracle("torch")
    head_dim = config.dim // config.n_heads
    wavenumbers = config.rope_theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(config.max_seq_len, dtype=torch.float64), wavenumbers)
    cos_table, sin_table = angles.cos().float(), angles.sin().float()

    def apply_rope(x: Any, theta: float) -> Any:
        T = x.shape[-2]
        cos, sin = cos_table[:T].to(x.dtype), sin_table[:T].to(x.dtype)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

    module.apply_rope = apply_rope
    return module
