"""``dist_llm.train`` with a fault: ``mpirun -n N python -m tests.faults.faulty_train FAULT ARGUMENTS``.

FAULT is what happens, on the last rank, in the middle of the third step's reduction or before it.
"""

import os
import shutil
import signal
import sys
import time

import numpy as np

import dist_llm.training.checkpoint
from dist_llm.errors import UserError
from dist_llm.parallel.comm import Comm
from dist_llm.parallel.program import run
from dist_llm.train import main
from dist_llm.training import validation
from dist_llm.training.step import TrainStep


def exception(step: TrainStep) -> None:
    raise ZeroDivisionError("the fault of this rank alone")


def user_error(step: TrainStep) -> None:
    raise UserError("this rank cannot read its shards: mount the disk")


def killed(step: TrainStep) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def bit_flip(step: TrainStep) -> None:
    # Not the last bit: by the next comparison a step may have rounded it away, and the replicas are equal again.
    step.model.params["model.layers.1.mlp.up_proj.weight"].data.view(np.uint32)[3, 4] ^= 1 << 8


def not_a_number(step: TrainStep) -> None:
    step.model.params["model.norm.weight"].data[0] = np.nan


def bad_gradient(step: TrainStep) -> None:
    step.model.params.grad[0] = np.nan


def leaves(step: TrainStep) -> None:
    sys.exit(0)


def leaves_at_once(step: TrainStep) -> None:
    os._exit(0)


def frozen(step: TrainStep) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hangs(step: TrainStep) -> None:
    while True:
        pass


def bug_on_rank_0(step: TrainStep) -> None:
    """Not on this rank, and only later: in what rank 0 does alone while the others wait."""

    def sample(*_) -> str:
        raise KeyError("a bug in what rank 0 does alone")

    validation.write_sample = sample


def disk_full(step: TrainStep) -> None:
    def write_tensors(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    dist_llm.training.checkpoint.write_tensors = write_tensors


def disk_full_for_a_while(step: TrainStep) -> None:
    write = dist_llm.training.checkpoint.write_tensors

    def write_tensors(*args: object, **kwargs: object) -> str:
        if step.step < 45:
            raise OSError(28, "No space left on device")
        return write(*args, **kwargs)

    dist_llm.training.checkpoint.write_tensors = write_tensors


def folder_deleted(step: TrainStep) -> None:
    shutil.rmtree("run")


def slow(step: TrainStep) -> None:
    time.sleep(0.2)  # at each step: a run long enough to be interrupted


def faulty_main(argv: list[str], comm: Comm) -> int:
    fault = globals()[argv[0]]
    accumulate = TrainStep._accumulate_gradients

    def accumulate_with_fault(self: TrainStep, n_targets: int) -> float:
        loss = accumulate(self, n_targets)
        everywhere = fault in (slow, bug_on_rank_0, disk_full, disk_full_for_a_while)
        if fault is slow or (self.step == 2 and (everywhere or comm.rank == comm.size - 1)):
            fault(self)
        return loss

    TrainStep._accumulate_gradients = accumulate_with_fault
    return main(argv[1:], comm)


if __name__ == "__main__":
    sys.exit(run(faulty_main))
