"""Two reports side by side, and reports that are read again."""

import json
from dataclasses import asdict, replace

import pytest

from dist_llm.errors import UserError
from dist_llm.scalability.comparison import compare, read_report
from dist_llm.scalability.report import Comparable
from tests.scalability.synthetic import STRONG, learning_run, report, runs


def test_two_reports_side_by_side():
    old = report()
    faster = {name: seconds / (2 if name == "4x1" else 1) for name, seconds in STRONG.items()}
    new = report(runs(faster, slow=(1.01, 0.99, 1, 1, 1.02, 0.98)), machine={"cpu": "another"})
    config = new.measurements.config.replace({"parallel": {"strategy": "blocking"}})
    new = replace(new, measurements=replace(new.measurements, config=config))
    section = compare(old, new)
    rows = {row[0]: row for row in section.rows[1:]}
    ratio, _, _, remark = rows["strong 4x1"][3:]
    assert (ratio[:7], remark) == ("2.000 (", "faster")
    assert rows["strong 2x1"][3].startswith("1.000 (")
    assert rows["strong 2x1"][4:] == ("90.9 %", "90.9 %", "not distinguishable")
    assert compare(new, old).rows[-1][-1] == "slower"
    text = " ".join(section.text().split())
    assert "cpu: A <fast> CPU -> another" in text
    assert "parallel.strategy: overlapped -> blocking" in text
    assert "nothing else differs" in compare(old, old).text()


def test_comparing_other_points_and_batches():
    old, new = report(), report(runs({"1x1": 1.0}) + runs({"2x1": 0.5}, disturbance=0.1), points="1x1,2x1")
    section = compare(old, new)
    assert "only in the old one: strong 1x2, strong 1x4, strong 4x1" in section.text()
    assert section.rows[2][-1] == "NO RESULT: new: other work disturbed 6 of 6 runs"
    assert section.rows[2][3] == "-"
    (series,) = new.series
    one, two, *_ = series.points
    new = replace(new, series=[replace(series, points=[one, replace(two, batch_size=99)])])
    assert compare(old, new).rows[2][-1] == "other batch: 8 and 99 sequences"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the report"),
        ("{", "it is no JSON"),
        ("[]", "of format 2"),
        ('{"format": 9}', "of format 2"),
        ('{"format": 1, "measurements": {}}', "of format 2"),
        ('{"format": 2, "measurements": 3}', "is damaged, or of a newer version"),
        ('{"format": 2}', "is damaged, or of a newer version"),
        (
            '{"format": 2, "measurements": {"config": {"model": {"dim": "x"}}}}',
            "is damaged, or of a newer version: model.dim takes",
        ),
        ('{"format": 2, "measurements": {"config": {}}, "created": 3}', "is damaged, or of a newer version: "),
    ],
)
def test_what_is_no_report(tmp_path, content, message):
    path = tmp_path / "scaling.json"
    if content is not None:
        path.write_text(content)
    for wish in (path, tmp_path):
        with pytest.raises(UserError, match=message):
            read_report(wish)


def test_a_report_is_read_as_it_was_written_and_so_is_one_of_an_older_version(tmp_path):
    made = report(learned=[learning_run(8, [6.0, 2.0])])
    (tmp_path / "scaling.json").write_text(json.dumps(asdict(made)))
    read = read_report(tmp_path)
    assert read == Comparable(**{name: getattr(made, name) for name in Comparable.__dataclass_fields__})
    older = asdict(made)
    parallel = older["measurements"]["config"]["parallel"]
    del older["to_loss"], older["measurements"]["to_loss"]
    parallel["reduction"], parallel["wire"] = parallel.pop("strategy"), parallel.pop("reduce_dtype")
    (tmp_path / "scaling.json").write_text(json.dumps(older))
    assert read_report(tmp_path) == replace(read, measurements=replace(read.measurements, to_loss=None))
