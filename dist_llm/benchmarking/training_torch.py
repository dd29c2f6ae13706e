"""The same training step in PyTorch, by the independent model that the tests hold ours to.

The baseline gets what is best for it: fused AdamW or not, the whole batch at once or micro-batches of four (half of it,
where that is fewer), whichever is faster here; rotary tables made once; and the allocator's setting that serves us. The
rest is as with us: the batches, the clipping, AdamW with decay on the matrices only.

In bfloat16 it runs by autocast. (Float32 products that may round to bfloat16, `set_float32_matmul_precision`, are
slower than those that do not, compiled or not.)
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

from dist_llm.benchmarking.turn import WARM_UP_STEPS, Job, Warm, batches, fastest, forget_memory, timed, tries
from dist_llm.parallel.allocator import keep_freed_memory
from dist_llm.partition import shard

MICRO_BATCH_SIZE = 4


def make(job: Job, bf16: bool = False, compiled: bool = False, ddp: bool = False) -> Warm:
    """Build and warm up the baseline: in bfloat16 or not, by `torch.compile` or not, data-parallel or not."""
    # Compilation in this process: a pool of compilers would stay, and wait for more work.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    import torch

    keep_freed_memory()
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.config.train.seed)
    baseline = _Baseline(job, bf16, compiled, ddp)
    how = baseline.choose()
    forget_memory()
    timed(baseline.step, WARM_UP_STEPS)
    tokens = baseline.rows * job.config.model.max_seq_len
    return f"{how}, torch {torch.__version__}", lambda: timed(baseline.step, job.steps, tokens)


class _Baseline:
    """Model, optimizer and batches of one process, with `rows` sequences in a step."""

    def __init__(self, job: Job, bf16: bool, compiled: bool, ddp: bool) -> None:
        import torch

        from dist_llm.baselines.torch_llama import RotaryTables, TorchLlama, torch_adamw

        config = job.config
        self._torch, self._config, self._world_size = torch, config, job.processes
        rows = shard(config.train.batch_size, job.rank, job.processes)
        self.rows: int = rows.stop - rows.start
        self._micro_batch_size = self.rows
        drawn = (batches(config).batch(step, job.rank, job.processes) for step in count())
        self._batches = ((torch.from_numpy(array).long() for array in batch) for batch in drawn)
        self._bf16 = bf16

        model = TorchLlama(config.model, config.vocab_size, RotaryTables(config.model))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=config.model.init_std)
        self._parameters = list(model.parameters())
        self._optimizer = torch_adamw(model, config.optim)

        class Loss(torch.nn.Module):  # what is compiled, or wrapped by DistributedDataParallel, is a forward()
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, tokens: Any, targets: Any) -> Any:
                return self.model.loss(tokens, targets)

        self._loss: Any = Loss()
        self._no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
        if compiled:
            self._loss = torch.compile(self._loss, dynamic=False)
        if ddp:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{job.rendezvous}", rank=job.rank, world_size=job.processes
            )
            self._loss = torch.nn.parallel.DistributedDataParallel(self._loss, gradient_as_bucket_view=True)
            self._no_sync = self._loss.no_sync

    def step(self, micro_batch_size: int | None = None) -> None:
        """Take one training step, with micro-batches of a size, or of the one that was chosen."""
        self._micro_batch_size = micro_batch_size or self._micro_batch_size
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

    def choose(self) -> str:
        """Use what is fastest here, and return it in words."""
        self._gradients()
        fused = self._agree(fastest((False, True), self._update))
        self._update(fused)
        sizes = dict.fromkeys((self.rows, min(MICRO_BATCH_SIZE, max(1, self.rows // 2))))
        self._micro_batch_size = self._agree(fastest([*sizes], self.step, tries(self._config)))
        size = f"micro-batches of {self._micro_batch_size}"
        return (
            f"{'whole batch' if self._micro_batch_size == self.rows else size}, {'fused' if fused else 'plain'} AdamW"
        )

    def _update(self, fused: bool) -> None:
        for group in self._optimizer.param_groups:
            group["fused"], group["foreach"] = fused, None
        self._optimizer.step()

    def _agree(self, choice: Any) -> Any:
        """Return the choice of the first process."""
        choices = [choice]
        if self._torch.distributed.is_initialized():
            self._torch.distributed.broadcast_object_list(choices)
        return choices[0]
