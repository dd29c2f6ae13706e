"""A run in a line: what it was set to, how far it has come, how good and how fast it is."""

import statistics
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dist_llm.config import SECTIONS, Config
from dist_llm.errors import UserError
from dist_llm.model.llama import count_parameters
from dist_llm.training.loss_history import LossHistory
from dist_llm.training.metrics import MetricsReader, evaluations_since_best
from dist_llm.training.run_dir import CONFIG, read_config

# What says where a run lies and what it shows, and nothing of what is computed.
LEFT_OUT = {"train.run_dir", "data.cache_dir", "data.shards"} | {f"log.{key}" for key in SECTIONS["log"]}


@dataclass(frozen=True)
class RunSummary:
    """What there is to tell of a run.

    Attributes
    ----------
    folder : Path
    status : str
        ``finished``; ``stopped early at step 80``; ``unfinished, step 120 of 300``; or ``broken: ...``, and then the
        rest is empty.
    settings : dict of str to object
        Values by their dotted names, such as ``optim.lr``.
    parameters : int
        Of the model.
    tokens : int
        Trained on.
    best_val_loss : float or None
    tokens_per_s : float or None
        Median over the recorded steps.
    hours : float
        Spent in steps and evaluations.
    history : LossHistory
    """

    folder: Path
    status: str
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    tokens: int = 0
    best_val_loss: float | None = None
    tokens_per_s: float | None = None
    hours: float = 0.0
    history: LossHistory = field(default_factory=LossHistory)


def find_runs(folder: Path) -> list[Path]:
    """Return the run folders inside a folder, by name: those with a configuration, and those that are called so."""
    inside = folder.iterdir() if folder.is_dir() else []
    return sorted(f for f in inside if f.is_dir() and ((f / CONFIG).exists() or f.name.startswith("run-")))


def summarize(folder: Path) -> RunSummary:
    """Summarize a run; whatever is wrong with it is in its status."""
    try:
        return _summarize(folder)
    except (UserError, OSError) as error:
        return RunSummary(folder, f"broken: {error}")
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        return RunSummary(folder, f"broken: its metrics.jsonl has other contents ({type(error).__name__}: {error})")


def _summarize(folder: Path) -> RunSummary:
    config = read_config(folder)
    step, history, rates = 0, LossHistory(), array("d")
    for record in MetricsReader(folder).new_records():
        step = int(record["step"])
        rates.append(record["tokens_per_s"])
        history.add(record)
    if not rates:
        return RunSummary(folder, "broken: no step was recorded", _values(config), _parameters(config))
    return RunSummary(
        folder,
        _status(folder, config, step),
        _values(config),
        _parameters(config),
        tokens=int(history.tokens),
        best_val_loss=history.val.best.loss if history.val.best else None,
        tokens_per_s=statistics.median(rates),
        hours=history.seconds / 3600,
        history=history,
    )


def _status(folder: Path, config: Config, step: int) -> str:
    train = config.train
    if step >= train.max_steps:
        return "finished"
    if 0 < train.patience <= evaluations_since_best(folder, step):
        return f"stopped early at step {step}"
    return f"unfinished, step {step} of {train.max_steps}"


def _values(config: Config) -> dict[str, Any]:
    return {
        f"{section}.{key}": getattr(getattr(config, section), key) for section, keys in SECTIONS.items() for key in keys
    }


def _parameters(config: Config) -> int:
    return count_parameters(config.model, config.model.vocab_size or 0)


def differing_settings(summaries: Sequence[RunSummary]) -> list[str]:
    """Return the names of the settings in which runs differ, but for where they lie and what they show."""
    settings = [summary.settings for summary in summaries if summary.settings]
    names = settings[0] if settings else {}
    return [name for name in names if name not in LEFT_OUT and any(s[name] != settings[0][name] for s in settings)]


def table(summaries: Sequence[RunSummary]) -> list[Sequence[str]]:
    """Return a row for each run, below a head."""
    differing = differing_settings(summaries)
    head = ["run", *differing, "parameters", "tokens", "best val loss", "tokens/s", "hours", "status"]
    rows: list[Sequence[str]] = [head]
    for s in summaries:
        settings = [_written(s.settings[name]) if s.settings else "" for name in differing]
        figures = [""] * 5
        if s.tokens:
            best = "none" if s.best_val_loss is None else f"{s.best_val_loss:.4f}"
            figures = [f"{s.parameters:,}", f"{s.tokens:,}", best, f"{s.tokens_per_s:,.0f}", f"{s.hours:.2f}"]
        rows.append([str(s.folder), *settings, *figures, s.status])
    return rows


def _written(value: Any) -> str:
    """Return a value as a user writes it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)
