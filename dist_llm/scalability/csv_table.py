"""The points as a table for spreadsheets and scripts: one row each, plain numbers in base units."""

import csv
import io
from typing import Any

from dist_llm.scalability.analysis import PHASES

PLAIN = ("point", "ranks", "threads", "cores", "hosts", "oversubscribed", "batch_size", "tokens_per_step", "runs")
SPREAD = ("tokens_per_s", "speed_up", "efficiency", "to_one_process", "mfu")


def csv_table(report: dict[str, Any]) -> str:
    """Return the table."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            "mode",
            *PLAIN,
            "disturbed_runs",
            "repeat",
            *(f"{name}_{which}" for name in SPREAD for which in ("median", "min", "max")),
            "karp_flatt",
            "step_s",
            *(f"{phase}_s" for phase in PHASES),
            "peak_memory_bytes",
            "bytes_sent",
            "loss",
        ]
    )
    for series in report["series"]:
        losses = (series.get("losses") or {}).get("by_point", {})
        for p in series["points"]:
            spreads = [(p[name] or {}).get(which, "") for name in SPREAD for which in ("median", "min", "max")]
            writer.writerow(
                [
                    series["mode"],
                    *(p[name] for name in PLAIN),
                    p["disturbed_runs"],
                    p["repeat"],
                    *spreads,
                    "" if p["karp_flatt"] is None else p["karp_flatt"],
                    p["step_s"],
                    *(p["seconds"][phase] for phase in PHASES),
                    max(p["peak_memory_bytes"]),
                    p["bytes_sent"],
                    losses.get(p["point"], ""),
                ]
            )
    return file.getvalue()
