"""The run folder: where a run writes, and how a run is found again."""

from pathlib import Path

from dist_llm.config import Config, read_toml
from dist_llm.errors import UserError

CONFIG, TOKENIZER = "config.toml", "tokenizer.json"


def check_run_dir_is_free(run_dir: str | None) -> None:
    """Refuse a folder that has something in it.

    Raises
    ------
    UserError
    """
    if run_dir is None:
        return
    folder = Path(run_dir)
    if (folder / CONFIG).exists():
        raise UserError(
            f"{folder} already holds a run: --resume {folder} continues it, another --train.run_dir starts anew"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: choose another --train.run_dir")


def create_run_dir(run_dir: str | None) -> Path:
    """Create the run folder, or the next free ``runs/run-001`` if none is named, and return it.

    Raises
    ------
    UserError
        It cannot be created or is not empty.
    """
    check_run_dir_is_free(run_dir)
    try:
        if run_dir is not None:
            Path(run_dir).mkdir(parents=True, exist_ok=True)
            return Path(run_dir)
        number = 1
        while True:
            folder = Path("runs") / f"run-{number:03d}"
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UserError(f"cannot create the run folder: {error}; choose another with --train.run_dir") from error


def read_config(run_dir: Path) -> Config:
    """Return the configuration a run was started with.

    Raises
    ------
    UserError
        The folder is no run.
    """
    if not (run_dir / CONFIG).is_file():
        raise UserError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    return Config().replace(read_toml(run_dir / CONFIG)).validated()


def run_dir_of(path: Path) -> Path:
    """Return the run folder of a run folder or of one of its checkpoints."""
    return path.parent.parent if path.parent.name == "checkpoints" else path
