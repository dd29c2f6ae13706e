"""A report on the terminal and in files."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dist_llm.atomic import write_bytes, write_text
from dist_llm.errors import RunError, UserError
from dist_llm.measuring.page import page
from dist_llm.measuring.tables import Section, wrap
from dist_llm.scalability.analysis import PHASES, PointResult
from dist_llm.scalability.figures import draw_report
from dist_llm.scalability.report import Report
from dist_llm.scalability.sections import sections
from dist_llm.scalability.study import listed
from dist_llm.training.run_dir import next_numbered

PLAIN = (
    "point", "ranks", "threads", "cores", "hosts", "oversubscribed", "batch_size", "tokens_per_step", "runs",
    "disturbed_runs", "doubt",
)  # fmt: skip
SPREADS = ("tokens_per_s", "speed_up", "efficiency", "to_one_process", "mfu", "step_s")


def write_report(report: Report, folder: Path, comparison: Sequence[Section], part: str | None = None) -> None:
    """Print the report, and write all its forms, of a part only the JSON; a comparison comes before the details."""
    file = f"part-{part}.json" if part else "scaling.json"
    write_text(folder / file, json.dumps(asdict(report), indent=1) + "\n")
    parts = [*comparison, *sections(report)]
    print("", *map(wrap, [*report.verdict, *(f"warning: {line}" for line in report.warnings)]), sep="\n")
    print("", *(f"{part.text()}\n" for part in parts), sep="\n", flush=True)
    if part:
        print(f"written: {file} in {folder}; when all parts are there: --merge {folder}", flush=True)
        return
    picture = draw_report(report)
    title = f"Scaling of {report.parameters:,} parameters on {report.environment.host}, {report.created}"
    panels = picture.panels if picture else []
    write_text(folder / "scaling.csv", csv_table(report))
    write_text(folder / "report.html", page(title, report.verdict, report.warnings, parts, panels))
    if picture:
        write_bytes(folder / "scaling.png", picture.png)
    names = f"report.html, scaling.json, scaling.csv{', scaling.png' if picture else ''}"
    print(f"written: {names} in {folder}{'' if picture else ' (no picture: pip install matplotlib)'}", flush=True)


def write_comparison(comparison: Section, out: Path | None) -> None:
    """Print a comparison, and write its page if a folder is named."""
    print(comparison.text(), flush=True)
    if out is not None:
        with out_folder(out) as folder:
            write_text(folder / "comparison.html", page("Two scaling reports side by side", (), (), [comparison], []))
        print(f"written: comparison.html in {folder}")


@contextmanager
def out_folder(wish: Path | None) -> Iterator[Path]:
    """Give the folder that the user names, or the next free ``runs/scaling-001``, which goes if it is left empty."""
    try:
        if wish is not None:
            wish.mkdir(parents=True, exist_ok=True)
        folder = wish or next_numbered("scaling")
    except OSError as error:
        raise UserError(f"--out: cannot make the folder {error.filename}: {error.strerror}") from error
    try:
        yield folder
    finally:
        with suppress(OSError):
            if wish is None:
                folder.rmdir()


def judge(report: Report) -> None:
    """Raise `RunError` where the report is not what was asked for."""
    if failures := report.measurements.failures:
        raise RunError(f"the report is not complete: {listed(failures)}")
    if any(series.losses and series.losses.equal is False for series in report.series):
        raise RunError("the losses of the strong series differ: its points do not do the same work")


def csv_table(report: Report) -> str:
    """Return the points as a table for spreadsheets and scripts: a row each, plain numbers in base units."""
    losses = {s.mode: s.losses.by_point if s.losses else {} for s in report.series}
    rows = [_row(s.mode, point, losses[s.mode].get(point.point)) for s in report.series for point in s.points]
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0] if rows else ("mode", *PLAIN), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _row(mode: str, point: PointResult, loss: float | None) -> dict[str, Any]:
    row = {"mode": mode} | {name: getattr(point, name) for name in PLAIN}
    for name in SPREADS:
        spread = getattr(point, name)
        low, high = spread.interval if spread and spread.interval else (None, None)
        row |= {f"{name}_median": spread and spread.median, f"{name}_low": low, f"{name}_high": high}
    row |= {"karp_flatt": point.karp_flatt}
    row |= {f"step_{p}_s": getattr(point.step_times, f"{p}_s") for p in ("p50", "p95", "p99")}
    row |= {f"{phase}_s": point.seconds[phase] for phase in PHASES}
    return row | {"peak_memory_bytes": max(point.peak_memory_bytes), "bytes_sent": point.bytes_sent, "loss": loss}
