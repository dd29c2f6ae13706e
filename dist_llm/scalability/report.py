"""The report: all figures as one dictionary, and its forms on the terminal and in files."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dist_llm.benchmarking.flops import flops_per_token
from dist_llm.durable import write_bytes, write_text
from dist_llm.model.llama import count_parameters
from dist_llm.scalability.analysis import summarize
from dist_llm.scalability.comparison import FORMAT
from dist_llm.scalability.csv_table import csv_table
from dist_llm.scalability.measured_sections import method_sections, speed_sections
from dist_llm.scalability.model_sections import model_sections
from dist_llm.scalability.modelling import communication_model
from dist_llm.scalability.page import page
from dist_llm.scalability.picture import draw
from dist_llm.scalability.projection import Network
from dist_llm.scalability.section import Section
from dist_llm.scalability.study import Study
from dist_llm.scalability.verdict import verdict, warnings


def make_report(
    study: Study, environment: dict[str, Any], command: str, weak_sequences: int, networks: Sequence[Network]
) -> dict[str, Any]:
    """Turn what was measured into what is reported.

    Parameters
    ----------
    study : Study
        With at least one run.
    environment : dict
        As of `environment.environment`, before the first run.
    command : str
        That the user gave.
    weak_sequences : int
        Per rank, in weak scaling.
    networks : sequence of Network
        To project to.

    Returns
    -------
    dict
        What becomes scaling.json.
    """
    config = study.config
    assert config.model.vocab_size is not None
    parameters = count_parameters(config.model, config.model.vocab_size)
    flops = flops_per_token(config.model, config.model.vocab_size)
    series = [summarize(s, study.runs, study.peak_flops, config, flops) for s in study.series]
    report = {
        "format": FORMAT,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "environment": environment,
        "method": study.method(),
        "config": asdict(config),
        "parameters": parameters,
        "flops_per_token": flops,
        "mpi": sorted({run.answer["mpi"] for run in study.runs if run.point.ranks > 1}),
        "series": series,
        "failures": study.failures,
        "peaks": study.peaks,
        "communication": communication_model(series, study.calibrations, config, parameters, weak_sequences, networks),
        "runs": [{"round": r.round, "point": str(r.point), "batch_size": r.batch_size, **r.answer} for r in study.runs],
    }
    return report | {"verdict": verdict(report), "warnings": warnings(report)}


def write_report(report: dict[str, Any], folder: Path, comparison: Sequence[Section]) -> None:
    """Print the report, and write all its forms; what it is compared with comes before the details."""
    write_text(folder / "scaling.json", json.dumps(report, indent=1) + "\n")
    parts = [*comparison, *speed_sections(report), *model_sections(report["communication"]), *method_sections(report)]
    notes = [f"warning: {line}" for line in report["warnings"]]
    print("\n" + "\n".join([*report["verdict"], *notes]))
    print("\n" + "\n\n".join(part.text() for part in parts), flush=True)
    pictures = draw(report)
    title = f"Scaling of {report['parameters']:,} parameters on {report['environment']['host']}, {report['created']}"
    svg = pictures.get("svg", b"").decode()
    write_text(folder / "scaling.csv", csv_table(report))
    write_text(folder / "report.html", page(title, report["verdict"], report["warnings"], parts, svg))
    names = ["report.html", "scaling.json", "scaling.csv"]
    if pictures:
        write_bytes(folder / "scaling.png", pictures["png"])
        names.append("scaling.png")
    else:
        print("(no picture: pip install matplotlib)")
    print(f"\nwritten: {', '.join(names)} in {folder}", flush=True)
