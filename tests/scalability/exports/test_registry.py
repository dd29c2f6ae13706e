"""What of a report with known figures comes into the files."""

import json
import re
from dataclasses import replace

import pytest

from dist_llm.scalability.exports.registry import EXPORTS, write_exports
from dist_llm.scalability.points import Point
from tests.scalability.synthetic import learning_run, one_run, report, runs


def test_all_reduces_are_those_of_the_calibration():
    made = report()
    for name in ("osu", "nccl-tests"):
        files = EXPORTS[name](made)
        assert list(files) == [f"allreduce-{ranks}-ranks.{name}.txt" for ranks in (2, 4)]
        for ranks, text in zip((2, 4), files.values(), strict=True):
            rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
            found = [(int(row[0]), float(row[1 if name == "osu" else 9])) for row in rows]
            expected = [(s.n_bytes, 1e6 * s.seconds) for s in made.communication.calibration if s.ranks == ranks]
            assert found == [(n, pytest.approx(us, abs=0.005)) for n, us in expected]
            assert f"measured by dist_llm 0 on here, {made.created}, Open MPI v5\n" in text


def test_without_a_calibration_there_is_no_all_reduce(tmp_path, capsys):
    write_exports(replace(report([]), communication=None), ["osu"], tmp_path)
    assert capsys.readouterr().out == "exported for osu: 0 files\n"
    assert list(tmp_path.iterdir()) == []


def test_step_times_are_those_of_the_series_without_oversubscribed_points():
    measured = runs({"1x1": 1.0, "2x1": 0.55}, waiting=(0.2, 0.1)) + runs({"2x1": 1.1}, batch_size=16)
    measured += [*runs({"4x1": 0.5}, warning="take turns"), one_run(1, Point(2, 1), 9.0, disturbance=0.2)]
    files = EXPORTS["extra-p"](report(measured, points="1x1,2x1,4x1", modes=("strong", "weak")))
    assert list(files) == ["scaling-strong.extra-p.jsonl", "scaling-weak.extra-p.jsonl"]
    strong, weak = ([json.loads(line) for line in text.splitlines()] for text in files.values())
    by_part = {(line["params"]["ranks"], line["callpath"]): line["value"] for line in strong}
    assert {ranks for ranks, _ in by_part} == {1, 2}
    # Six rounds, of which the second was half as fast; a disturbed run of it does not count.
    assert by_part[2, "step"] == pytest.approx([0.55, 1.1, *[0.55] * 4])
    assert by_part[2, "step->communication"] == pytest.approx([0.11, 0.22, *[0.11] * 4])
    assert by_part[2, "step->imbalance"] == pytest.approx([0.055, 0.11, *[0.055] * 4])
    for ranks in (1, 2):
        parts = [value for (of, part), value in by_part.items() if of == ranks and part != "step"]
        assert [sum(values) for values in zip(*parts, strict=True)] == pytest.approx(by_part[ranks, "step"])
    assert {tuple(line["value"]) for line in weak if line["callpath"] == "step" and line["params"]["ranks"] == 2} == {
        (1.1, 2.2, 1.1, 1.1, 1.1, 1.1)
    }


def test_each_run_has_a_log():
    measured = runs({"2x1": 0.5}, (1, 2, 1), steps=2, disturbance=0.5)
    files = EXPORTS["mllog"](report(measured, points="2x1"))
    assert list(files) == [f"mllog/2x1-batch-8-run-{number}.log" for number in (1, 2, 3)]
    second = [json.loads(line.removeprefix(":::MLLOG ")) for line in list(files.values())[1].splitlines()]
    by_key = {entry["key"]: entry for entry in second}
    assert by_key["global_batch_size"]["value"] == 8
    assert by_key["max_sequence_length"]["value"] == 100
    assert by_key["run_stop"]["time_ms"] == 2000  # two steps, in the round that was half as fast
    assert by_key["tracked_stats"]["value"]["tokens_per_s"] == pytest.approx(800)
    assert by_key["tracked_stats"]["metadata"] == {"step": 3, "samples_count": 24}
    assert by_key["run_start"]["metadata"] == {
        "point": "2x1", "round": 2, "disturbed": True, "oversubscribed": False,
    }  # fmt: skip


def test_each_run_that_learned_has_a_log():
    learned = [learning_run(4, [6.0, 4.0, 2.7], lr=1e-3), learning_run(8, [6.0, 5.0])]
    files = EXPORTS["mllog"](report([], points="2x1", learned=learned))
    assert list(files) == ["mllog/2x1-batch-4-learning.log", "mllog/2x1-batch-8-learning.log"]
    first, second = (
        [json.loads(line.removeprefix(":::MLLOG ")) for line in text.splitlines()] for text in files.values()
    )
    settings = {entry["key"]: entry["value"] for entry in first}
    assert (settings["global_batch_size"], settings["opt_base_learning_rate"]) == (4, 1e-3)
    assert settings["target_accuracy"] == 3.0
    evaluations = [entry for entry in first if entry["key"] == "eval_accuracy"]
    assert [entry["value"] for entry in evaluations] == [6.0, 4.0, 2.7]
    assert [entry["metadata"]["samples_count"] for entry in evaluations] == [0, 40, 80]
    assert [entry["time_ms"] for entry in evaluations] == [0, 5000, 10000]
    assert [log[-1]["metadata"]["status"] for log in (first, second)] == ["success", "aborted"]


def test_files_are_written_once_and_named(tmp_path, capsys):
    made = report()
    write_exports(made, ["osu", "mllog", "osu"], tmp_path)
    osu, mllog = capsys.readouterr().out.splitlines()
    assert osu == f"exported for osu: 2 files in {tmp_path}: allreduce-2-ranks.osu.txt, ..."
    assert re.match(r"exported for mllog: 30 files in .*: mllog/1x1-batch-8-run-1.log, ...", mllog)
    assert len(list(tmp_path.rglob("*.log"))) == 30
    assert (tmp_path / "allreduce-4-ranks.osu.txt").read_text() == EXPORTS["osu"](made)["allreduce-4-ranks.osu.txt"]
