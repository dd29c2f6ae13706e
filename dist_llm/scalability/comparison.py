"""Two reports side by side: before and after a change, or two machines."""

import json
from pathlib import Path
from typing import Any

from dist_llm.errors import UserError
from dist_llm.scalability.section import Row, Section

FORMAT = 1
ENVIRONMENT = ("host", "cpu", "usable_cores", "frequency_governor", "dist_llm", "python", "numpy", "blas")


def read_report(path: Path) -> dict[str, Any]:
    """Read a ``scaling.json``.

    Raises
    ------
    UserError
        It is missing, or is no report that this version can read.
    """
    file = path / "scaling.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the report {file}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a scaling.json: it is no JSON") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise UserError(f"{file} is not a scaling.json of format {FORMAT}")
    return report


def compare(old: dict[str, Any], new: dict[str, Any]) -> Section:
    """Return the points that both have, and how the two runs differ otherwise."""
    rows: list[Row] = [
        ("", "tokens/s old", "(min..max)", "tokens/s new", "(min..max)", "new / old", "efficiency old", "new", "")
    ]
    before = {(s["mode"], p["point"]): p for s in old["series"] for p in s["points"]}
    after = {(s["mode"], p["point"]): p for s in new["series"] for p in s["points"]}
    for key in after:
        if key in before:
            rows.append(_row(" ".join(key), before[key], after[key]))
    words = [f"old: {_origin(old)}", f"new: {_origin(new)}", *_differences(old, new)]
    for name, only in (("old", before.keys() - after.keys()), ("new", after.keys() - before.keys())):
        if only:
            words.append(f"only in the {name} one: {', '.join(' '.join(key) for key in sorted(only))}")
    return Section("two reports side by side", rows if len(rows) > 1 else [], (0, len(rows[0]) - 1), words)


def _row(name: str, old: dict[str, Any], new: dict[str, Any]) -> Row:
    before, after = old["tokens_per_s"], new["tokens_per_s"]
    apart = after["min"] > before["max"] or after["max"] < before["min"]
    remark = "" if apart else "within the spread"
    if old["batch_size"] != new["batch_size"]:
        remark = f"other batch: {old['batch_size']} and {new['batch_size']} sequences"
    return (
        name,
        *(
            text
            for speed in (before, after)
            for text in (f"{speed['median']:,.0f}", f"({speed['min']:,.0f}..{speed['max']:,.0f})")
        ),
        f"{after['median'] / before['median']:.2f}",
        *("-" if not p["efficiency"] else f"{100 * p['efficiency']['median']:.1f} %" for p in (old, new)),
        remark,
    )


def _origin(report: dict[str, Any]) -> str:
    e = report["environment"]
    return f"{report['created']} on {e['host']} ({e['cpu']}, {e['usable_cores']} cores), dist_llm {e['dist_llm']}"


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what else is not the same."""
    found = []
    for key in ENVIRONMENT:
        if old["environment"][key] != new["environment"][key]:
            found.append(f"{key}: {old['environment'][key]} -> {new['environment'][key]}")
    if old["mpi"] != new["mpi"]:
        found.append(f"MPI: {', '.join(old['mpi'])} -> {', '.join(new['mpi'])}")
    for section in new["config"]:
        if section in ("data", "log"):
            continue
        for key, value in new["config"][section].items():
            was = old["config"].get(section, {}).get(key)
            if was != value:
                found.append(f"{section}.{key}: {was} -> {value}")
    return [f"differs: {'; '.join(found)}"] if found else ["nothing else differs that is recorded"]
