"""What a way of reduction sends in a step: which operation of MPI, how large and how often."""

from dataclasses import dataclass

from dist_llm.config import ParallelConfig
from dist_llm.parallel.wire import encoded_bytes

OPERATIONS = {
    "all-reduce": "an all-reduce that blocks",
    "started all-reduce": "all-reduces that are started, and waited for later",
    "reduce-scatter, all-gather": "a reduce-scatter and an all-gather",
    "all-to-all, all-gather": "an all-to-all and an all-gather",
}


@dataclass(frozen=True)
class Traffic:
    """The reduction's messages of a step.

    Attributes
    ----------
    operation : str
        One of OPERATIONS.
    message_bytes : int
        What one operation sums up.
    messages : int
        Operations in a step.
    every_steps : int
        Steps from one step with messages to the next.
    overlaps : bool
        Whether they go on beside the backward pass.
    """

    operation: str
    message_bytes: int
    messages: int = 1
    every_steps: int = 1
    overlaps: bool = False


def traffic(config: ParallelConfig, parameters: int) -> Traffic:
    """Return what a reduction sends for so many parameters."""
    bytes_ = 4 * parameters
    if config.reduction == "overlapped":
        messages = -(-bytes_ // config.bucket_bytes)
        return Traffic("started all-reduce", -(-bytes_ // messages), messages, overlaps=True)
    if config.reduction == "deterministic":
        return Traffic("all-reduce", 8 * parameters)
    if config.reduction == "sharded":
        return Traffic("reduce-scatter, all-gather", bytes_)
    if config.reduction == "local":
        encoded = encoded_bytes(parameters, config.wire)
        return Traffic("all-to-all, all-gather", encoded, every_steps=config.local_steps)
    if config.wire != "float32":
        return Traffic("all-to-all, all-gather", encoded_bytes(parameters, config.wire))
    return Traffic("all-reduce", bytes_)
