"""What a training step gives."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepResult:
    """What happened in a step; the same on every rank, but for the figures of communication.

    Attributes
    ----------
    step : int
        Steps taken so far.
    tokens : int
        Tokens trained on so far.
    loss : float
        Loss of the whole batch before the update, in nats per token.
    lr : float
    grad_norm : float
        Before clipping.
    rss_bytes : list of int
        Resident memory of each rank.
    stopped : bool
        Whether any rank was asked to stop.
    left_out : bool
        Whether the parameters were left as they were, because the loss or the gradient was bad.
    comm_exposed_s : float
        Seconds in which this rank waited for gradients or parameters and did nothing else.
    comm_bytes : float
        Sent by this rank for them.
    comm_hidden : float or None
        Fraction of a blocking all-reduce's time that was not waited for, where the strategy hides it.
    """

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    rss_bytes: list[int]
    stopped: bool
    left_out: bool
    comm_exposed_s: float
    comm_bytes: float
    comm_hidden: float | None
