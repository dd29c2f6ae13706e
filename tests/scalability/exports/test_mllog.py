import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dist_llm.scalability.exports.mllog import EvaluatedRun, MeasuredRun, learning_mllog, mllog

SETTINGS = {"seed": 1, "global_batch_size": 8, "micro_batch_size": 4, "max_sequence_length": 100}
RUN = MeasuredRun(SETTINGS, {"point": "2x1", "disturbed": False}, 8, 100, 2, 10, 5.5, 4.25)
LEARNED = EvaluatedRun(SETTINGS, {"point": "2x1"}, 8, [0, 10, 20], [0.5, 3.0, 5.5], [6.0, 4.0, 2.9], 3.0)
RULES = Path(__file__).with_name("mllog_form.yaml")


def entries(text: str) -> list[dict]:
    lines = text.splitlines()
    assert all(line.startswith(":::MLLOG {") for line in lines)
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def test_a_run_is_an_interval_between_its_settings_and_its_end():
    found = entries(mllog(RUN))
    assert [entry["key"] for entry in found] == [
        "comment", *SETTINGS, "run_start", "block_start", "tracked_stats", "block_stop", "run_stop",
    ]  # fmt: skip
    for entry in found:
        assert list(entry) == ["namespace", "time_ms", "event_type", "key", "value", "metadata"]
    by_key = {entry["key"]: entry for entry in found}
    assert {key: by_key[key]["value"] for key in SETTINGS} == SETTINGS
    assert (by_key["run_start"]["time_ms"], by_key["run_stop"]["time_ms"]) == (0, 5500)
    assert (by_key["run_start"]["event_type"], by_key["run_stop"]["event_type"]) == ("INTERVAL_START", "INTERVAL_END")
    assert by_key["run_start"]["metadata"] == {"point": "2x1", "disturbed": False}
    # 2 steps of 8 sequences to warm up, and 10 that were measured.
    assert by_key["block_start"]["metadata"] == {"samples_count": 16}
    assert by_key["block_stop"]["metadata"] == {"samples_count": 96}
    assert by_key["tracked_stats"]["metadata"] == {"step": 12, "samples_count": 96}
    assert by_key["tracked_stats"]["value"] == {
        "throughput": pytest.approx(80 / 5.5), "tokens_per_s": pytest.approx(8000 / 5.5), "train_loss": 4.25,
    }  # fmt: skip


def test_it_says_first_that_it_is_no_result_of_mlperf():
    first, *others = entries(mllog(RUN))
    assert "not an MLPerf result" in first["value"]
    assert not any(entry["key"].startswith("submission") for entry in others)


def test_a_run_that_learned_has_its_evaluations():
    found = entries(learning_mllog(LEARNED))
    assert [entry["key"] for entry in found] == [
        "comment", *SETTINGS, "run_start", "block_start", *["eval_accuracy"] * 3, "block_stop", "run_stop",
    ]  # fmt: skip
    evaluations = [entry for entry in found if entry["key"] == "eval_accuracy"]
    assert [(e["time_ms"], e["value"], e["metadata"]["samples_count"]) for e in evaluations] == [
        (500, 6.0, 0), (3000, 4.0, 80), (5500, 2.9, 160),
    ]  # fmt: skip
    assert found[-1]["metadata"] == {"status": "success", "samples_count": 160}
    short = entries(learning_mllog(replace(LEARNED, target=2.0)))
    assert short[-1]["metadata"]["status"] == "aborted"


def checked(text: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What the compliance checker of MLCommons says."""
    if importlib.util.find_spec("mlperf_logging") is None:
        pytest.skip("needs mlperf-logging")
    log = folder / "run.log"
    log.write_text(text)
    command = [sys.executable, "-m", "mlperf_logging.compliance_checker", "--werror", "--ruleset", "6.1.0"]
    return subprocess.run([*command, *options, log.name], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", [mllog(RUN), learning_mllog(LEARNED)])
def test_the_compliance_checker_finds_the_form_right(tmp_path, text):
    result = checked(text, tmp_path, "--config", str(RULES))
    assert result.returncode == 0, result.stderr
    assert "SUCCESS" in result.stderr


def test_the_rules_of_a_submission_object_to_no_line_but_the_start(tmp_path):
    result = checked(mllog(RUN), tmp_path)
    assert result.returncode == 1
    assert "parsing errors" not in result.stderr
    missing, wrong = (
        set(re.findall(pattern, result.stderr)) for pattern in (r"occurrence of '(\w+)'", r"CHECK for '(\w+)' failed")
    )
    logged = {entry["key"] for entry in entries(mllog(RUN))}
    assert "eval_accuracy" in missing
    assert not missing & logged
    assert wrong == {"run_start"}  # before which they want the start-up timed, which is not measured
