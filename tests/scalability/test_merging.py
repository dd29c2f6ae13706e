"""Parts of a study, measured apart, and merged."""

import json
from dataclasses import asdict, replace

import pytest

from dist_llm.errors import UserError
from dist_llm.scalability.merging import merge, read_parts
from dist_llm.scalability.report import make_report
from tests.scalability.synthetic import MACHINE, report, runs, study

# The node that the second part came to is a third slower, for both of its points.
PARTS = [
    report(runs({"1x1": 1.0, "2x1": 0.55}), points="1x1,2x1"),
    report(runs({"1x1": 1.5, "4x1": 1.5 * 0.325}), points="1x1,4x1"),
]


def written(tmp_path, parts) -> list:
    paths = []
    for i, part in enumerate(parts):
        paths.append(tmp_path / f"part-{i}x1.json")
        paths[-1].write_text(json.dumps(asdict(part)))
    return paths


def test_points_are_compared_with_the_reference_of_their_part(tmp_path):
    written(tmp_path, PARTS)
    merged = merge([part.measurements for part in read_parts([tmp_path])])
    made = make_report(merged, MACHINE, "merge", [])
    (series,) = made.series
    points = {p.point: p for p in series.points}
    assert list(points) == ["1x1", "2x1", "4x1"]
    assert points["2x1"].efficiency.rounds == pytest.approx([1 / 0.55 / 2] * 6)
    assert points["4x1"].efficiency.rounds == pytest.approx([1 / 0.325 / 4] * 6)
    assert points["1x1"].runs == 12
    assert len({(run.round, run.point) for run in merged.runs}) == len(merged.runs) == 24
    assert series.fit.serial_share.median == pytest.approx(0.1)
    assert series.losses.equal
    assert made.verdict[0].startswith("strong scaling: 4x1")


def test_order_and_number_of_files_do_not_matter(tmp_path):
    one, two = written(tmp_path, PARTS)
    results = []
    for paths in ([tmp_path], [one, two], [two, one]):
        made = make_report(merge([part.measurements for part in read_parts(paths)]), MACHINE, "merge", [])
        results.append([(p.point, p.efficiency.median, p.efficiency.interval) for p in made.series[0].points])
    assert results[0] == results[1] == results[2]


def test_a_merged_report_is_a_part_too(tmp_path):
    written(tmp_path, PARTS)
    first = merge([part.measurements for part in read_parts([tmp_path])])
    file = tmp_path / "scaling.json"
    file.write_text(json.dumps(asdict(make_report(first, MACHINE, "merge", []))))
    again = merge([part.measurements for part in read_parts([file])])
    assert again == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"dim": 96}}, "are not of one study: model.dim is 192 and 96"),
        ({"parallel": {"strategy": "blocking"}}, "parallel.strategy is overlapped and blocking"),
    ],
)
def test_parts_of_other_work_are_refused(tmp_path, change, message):
    other = PARTS[1].measurements
    other = replace(PARTS[1], measurements=replace(other, config=other.config.replace(change)))
    written(tmp_path, [PARTS[0], other])
    with pytest.raises(UserError, match=message):
        read_parts([tmp_path])


def test_parts_with_another_reference_are_refused(tmp_path):
    written(tmp_path, [PARTS[0], report(runs({"2x1": 0.55, "4x1": 0.3}), points="2x1,4x1")])
    with pytest.raises(UserError, match="strong scaling of 8 sequences relative to 1x1 and of 8 sequences relative to"):
        read_parts([tmp_path])


def test_without_parts_there_is_nothing_to_merge(tmp_path):
    with pytest.raises(UserError, match=r"--merge: there is no part-\*.json in "):
        read_parts([tmp_path])
    with pytest.raises(UserError, match="cannot read the report"):
        read_parts([tmp_path / "gone.json"])


def test_what_one_part_lacks_is_missing_in_the_whole():
    broken = study(runs({"1x1": 1.0}), points="1x1,4x1")
    broken.failures["4x1"] = "killed"
    merged = merge([PARTS[0].measurements, broken])
    assert merged.failures == {"4x1": "killed"}
    made = make_report(merged, MACHINE, "merge", [])
    assert made.series[0].failed == ["4x1"]
    assert any("4x1 failed and is missing: killed" in warning for warning in made.warnings)
