"""A report on the terminal and in files."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dist_llm.atomic import write_bytes, write_text
from dist_llm.errors import RunError, UserError
from dist_llm.measuring.page import page
from dist_llm.measuring.tables import Section
from dist_llm.scalability.analysis import PHASES, PointResult
from dist_llm.scalability.figures import draw
from dist_llm.scalability.report import Report
from dist_llm.scalability.sections import sections
from dist_llm.scalability.study import listed
from dist_llm.training.run_dir import next_numbered

PLAIN = (
    "point", "ranks", "threads", "cores", "hosts", "oversubscribed", "batch_size", "tokens_per_step", "runs",
    "disturbed_runs", "repeat",
)  # fmt: skip
SPREADS = ("tokens_per_s", "speed_up", "efficiency", "to_one_process", "mfu")


def write_report(report: Report, folder: Path, comparison: Sequence[Section]) -> None:
    """Print the report, and write all its forms; what it is compared with comes before the details."""
    write_text(folder / "scaling.json", json.dumps(asdict(report), indent=1) + "\n")
    parts = [*comparison, *sections(report)]
    notes = [f"warning: {line}" for line in report.warnings]
    print("\n" + "\n".join([*report.verdict, *notes]))
    print("\n" + "\n\n".join(part.text() for part in parts), flush=True)
    pictures = draw(report)
    title = f"Scaling of {report.parameters:,} parameters on {report.environment.host}, {report.created}"
    svg = pictures.get("svg", b"").decode()
    write_text(folder / "scaling.csv", csv_table(report))
    write_text(folder / "report.html", page(title, report.verdict, report.warnings, parts, svg))
    names = ["report.html", "scaling.json", "scaling.csv"]
    if pictures:
        write_bytes(folder / "scaling.png", pictures["png"])
        names.append("scaling.png")
    else:
        print("(no picture: pip install matplotlib)")
    print(f"\nwritten: {', '.join(names)} in {folder}", flush=True)


def write_comparison(comparison: Section, out: Path | None) -> None:
    """Print a comparison, and write its page if a folder is named."""
    print(comparison.text(), flush=True)
    if out is not None:
        folder = out_folder(out)
        write_text(folder / "comparison.html", page("Two scaling reports side by side", (), (), [comparison], ""))
        print(f"written: comparison.html in {folder}")


def out_folder(wish: Path | None) -> Path:
    """Make and return the folder that the user names, or the next free ``runs/scaling-001``.

    Raises
    ------
    UserError
    """
    try:
        if wish is None:
            return next_numbered("scaling")
        wish.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make the folder {error.filename}: {error.strerror}") from error
    return wish


def judge(report: Report) -> None:
    """End with an error where the report is not what was asked for.

    Raises
    ------
    RunError
    """
    if report.failures:
        raise RunError(f"the report is not complete: {listed(report.failures)}")
    if any(series.losses and series.losses.equal is False for series in report.series):
        raise RunError("the losses of the strong series differ: its points do not do the same work")


def csv_table(report: Report) -> str:
    """Return the points as a table for spreadsheets and scripts: a row each, plain numbers in base units."""
    rows = [
        _row(series.mode, point, series.losses.by_point.get(point.point) if series.losses else None)
        for series in report.series
        for point in series.points
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0] if rows else ("mode", *PLAIN), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _row(mode: str, point: PointResult, loss: float | None) -> dict[str, Any]:
    row = {"mode": mode} | {name: getattr(point, name) for name in PLAIN}
    for name in SPREADS:
        spread = getattr(point, name)
        row |= {f"{name}_{which}": getattr(spread, which, None) for which in ("median", "min", "max")}
    row |= {"karp_flatt": point.karp_flatt, "step_s": point.step_s}
    row |= {f"{phase}_s": point.seconds[phase] for phase in PHASES}
    return row | {
        "peak_memory_bytes": max(point.peak_memory_bytes),
        "bytes_sent": point.bytes_sent,
        "loss": loss,
    }
