"""Which of a run's checkpoints stay."""

from pathlib import Path

from dist_llm.atomic import remove_folder
from dist_llm.training.checkpoint import list_checkpoints, set_aside, step_of
from dist_llm.training.checkpoint_state import readable_val_loss


def prune_checkpoints(run_dir: Path, keep: int) -> None:
    """Remove all checkpoints but the last `keep` and the one with the lowest validation loss.

    Raises
    ------
    OSError
        The disk does not let one of them be removed, or read, and then none is removed: it might be the best.
    """
    folders = list_checkpoints(run_dir)
    kept = {*folders[-keep:], min(reversed(folders), key=readable_val_loss, default=None)}
    for folder in folders:
        if folder not in kept:
            remove_folder(folder)


def set_aside_later_checkpoints(run_dir: Path, step: int) -> None:
    """Rename the checkpoints after `step` to ``abandoned-...``: a run continued from there will make others.

    Otherwise they would be taken for its latest ones. They may be damaged, and are the user's to delete.
    """
    for folder in list_checkpoints(run_dir):
        if step_of(folder) > step:
            set_aside(folder)
