"""The files of a run that rank 0 writes to while the run goes on."""

from collections.abc import Callable
from pathlib import Path

from dist_llm.config import Config
from dist_llm.training.checkpoint_writer import CheckpointWriter
from dist_llm.training.loss_curve import LossCurve
from dist_llm.training.metrics import MetricsLog


class RunFiles:
    """Metrics, checkpoints and the loss curve of a run.

    Parameters
    ----------
    folder : Path
        Run folder, which this process has locked.
    config : Config
    step : int
        Finished steps of the run so far.

    Attributes
    ----------
    metrics : MetricsLog
    checkpoints : CheckpointWriter
    """

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        self._folder, self._config = folder, config
        self.metrics = MetricsLog(folder, step, config.log.tensorboard)
        self.checkpoints = CheckpointWriter(folder, config.train.keep_checkpoints)
        self._loss_curve = LossCurve(folder, config)

    def rewind(self, step: int) -> None:
        """Drop what was recorded of the steps after `step`: they will be taken again."""
        self.metrics.close()
        self.metrics = MetricsLog(self._folder, step, self._config.log.tensorboard)
        self._loss_curve = LossCurve(self._folder, self._config)

    def draw_loss_curve(self, say: Callable[[str], object]) -> None:
        """Draw the curve of what has been recorded."""
        try:
            self._loss_curve.draw()
        except Exception as error:  # whatever is wrong with matplotlib here, a picture is not worth a run
            say(f"no loss.png: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Close them, after what is being written."""
        self.metrics.close()
        self.checkpoints.close()
