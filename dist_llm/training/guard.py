"""Which steps are not taken: a guard against single bad batches, and against a run that has gone wrong.

A loss or gradient that is not a finite number would spoil every weight for good. A loss far above those before, a
spike, often comes from a damaged text, and may cost a long run thousands of steps (Chowdhery et al. 2022, arXiv
2204.02311, section 5.1, skipped such batches). Either step is left out, and how often that may happen is limited.
"""

import math
from collections.abc import Mapping

import numpy as np

from dist_llm.config import TrainConfig
from dist_llm.errors import RunError

MEMORY = 0.98  # of the running mean of the losses: about the last fifty
FIRST_STEPS = 50  # the loss falls steeply, and nothing is compared with it


class StepGuard:
    """Counts the steps that are left out; the same on every rank.

    Parameters
    ----------
    config : TrainConfig

    Attributes
    ----------
    bad_steps : int
        Steps left out so far.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.bad_steps = 0
        self._mean_loss, self._n = 0.0, 0

    def refuses(self, step: int, loss: float, grad_norm: float) -> bool:
        """Whether a step shall be left out.

        Parameters
        ----------
        step : int
            Its number, for the message.
        loss, grad_norm : float
            Those of the whole batch, before the update.

        Raises
        ------
        RunError
            It is one more than may be.
        """
        limit, usual = self._config.spike_limit, self._mean_loss / (1 - MEMORY**self._n) if self._n else 0.0
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            what = f"the loss or gradient of step {step} is not a finite number"
        elif limit and self._n >= FIRST_STEPS and loss > limit * usual:
            what = f"the loss of step {step} is {loss:.4g}, more than {limit:g} times the usual {usual:.4g}"
        else:
            self._mean_loss = MEMORY * self._mean_loss + (1 - MEMORY) * loss
            self._n += 1
            return False
        if self.bad_steps >= self._config.max_bad_steps:
            so_far = f" ({self.bad_steps} steps were left out before)" if self.bad_steps else ""
            raise RunError(
                f"{what}{so_far}: lower --optim.lr, raise --optim.warmup_steps, or leave such steps out with "
                "--train.max_bad_steps",
                agreed=True,
            )
        self.bad_steps += 1
        return True

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return what it remembers, if that can make a difference."""
        if not (self.bad_steps or self._config.spike_limit):
            return {}
        return {
            "bad_steps": np.array([self.bad_steps]),
            "n_losses": np.array([self._n]),
            "mean_loss": np.array([self._mean_loss]),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned."""
        if state:
            self.bad_steps, self._n = int(state["bad_steps"][0]), int(state["n_losses"][0])
            self._mean_loss = float(state["mean_loss"][0])
