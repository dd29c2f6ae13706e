"""Two reports side by side: before and after a change, or two machines."""

from dataclasses import asdict
from pathlib import Path

import msgspec

from dist_llm.config import Config
from dist_llm.errors import UserError
from dist_llm.measuring.confidence import ratio_interval
from dist_llm.measuring.tables import Row, Section
from dist_llm.regular_file import read_json
from dist_llm.scalability.analysis import PointResult
from dist_llm.scalability.report import FORMAT, Comparable

ENVIRONMENT = ("host", "cpu", "usable_cores", "frequency_governor", "dist_llm", "python", "numpy", "blas")


def read_report(path: Path) -> Comparable:
    """Read a ``scaling.json``.

    Raises
    ------
    UserError
        It is missing, or is no report that this version can read.
    """
    file = path / "scaling.json" if path.is_dir() else path
    try:
        report = read_json(file)
    except OSError as error:
        raise UserError(f"cannot read the report {file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file} is not a scaling.json: it is no JSON") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise UserError(f"{file} is not a scaling.json of format {FORMAT}")
    try:
        measured = report["measurements"]
        measured["config"] = asdict(Config().replace(measured["config"]))
        return msgspec.convert(report, Comparable, str_keys=True)
    except (KeyError, TypeError, UserError, msgspec.ValidationError) as error:
        raise UserError(f"{file} is damaged, or of a newer version: {error}") from error


def compare(old: Comparable, new: Comparable) -> Section:
    """Return the points that both have, and how the two runs differ otherwise."""
    rows: list[Row] = [("", "tokens/s old", "new", "new / old (95 %)", "efficiency old", "new", "")]
    before, after = ({f"{s.mode} {p.point}": p for s in report.series for p in s.points} for report in (old, new))
    rows += [_row(name, before[name], after[name]) for name in after if name in before]
    words = [f"old: {_origin(old)}", f"new: {_origin(new)}", *_differences(old, new)]
    for name, only in (("old", before.keys() - after.keys()), ("new", after.keys() - before.keys())):
        if only:
            words.append(f"only in the {name} one: {', '.join(sorted(only))}")
    words.append(
        "new / old: ratio of the medians, with its 95 % interval by the bootstrap's standard error of its logarithm"
    )
    return Section("two reports side by side", rows if len(rows) > 1 else [], (0, len(rows[0]) - 1), words)


def _row(name: str, old: PointResult, new: PointResult) -> Row:
    before, after = old.tokens_per_s, new.tokens_per_s
    interval, remark = ratio_interval(after.rounds, before.rounds), ""
    ratio = f"{after.median / before.median:.3f}"
    if old.batch_size != new.batch_size:
        remark = f"other batch: {old.batch_size} and {new.batch_size} sequences"
    elif old.doubt or new.doubt:
        ratio, remark = (
            "-",
            "NO RESULT: " + "; ".join(f"{which}: {p.doubt}" for which, p in (("old", old), ("new", new)) if p.doubt),
        )
    elif interval:
        low, high = interval
        ratio += f" ({low:.3f}..{high:.3f})"
        remark = "not distinguishable" if low <= 1 <= high else "faster" if low > 1 else "slower"
    efficiencies = (p.efficiency.middle(1, 100, " %") if p.efficiency else "-" for p in (old, new))
    return name, before.middle(0), after.middle(0), ratio, *efficiencies, remark


def _origin(report: Comparable) -> str:
    e = report.environment
    return f"{report.created} on {e.host} ({e.cpu}, {e.usable_cores} cores), dist_llm {e.dist_llm}"


def _differences(old: Comparable, new: Comparable) -> list[str]:
    """Return what else is not the same."""
    pairs = [(key, getattr(old.environment, key), getattr(new.environment, key)) for key in ENVIRONMENT]
    pairs.append(("MPI", ", ".join(old.mpi), ", ".join(new.mpi)))
    for section, values in asdict(new.measurements.config).items():
        if section not in ("data", "log"):
            older = getattr(old.measurements.config, section)
            pairs += [(f"{section}.{key}", getattr(older, key), value) for key, value in values.items()]
    found = [f"{name}: {was} -> {is_}" for name, was, is_ in pairs if was != is_]
    return [f"differs: {'; '.join(found)}"] if found else ["nothing else differs that is recorded"]
