import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from dist_llm.scalability.report import FORMAT
from dist_llm.scalability.schema import COMMAND, schema
from tests.scalability.synthetic import learning_run, report, runs

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_schema_is_that_of_the_code():
    assert json.loads((DOCS / "scaling.schema.json").read_text()) == json.loads(json.dumps(schema())), (
        f"run `{COMMAND}`, describe new fields in docs/SCALING_JSON.md, and if one is gone or is not what it was, "
        "raise FORMAT in dist_llm/scalability/report.py"
    )


def test_every_field_is_described_and_nothing_else():
    described: dict[str, set[str]] = {}
    for section in re.split(r"^## ", (DOCS / "SCALING_JSON.md").read_text(), flags=re.MULTILINE)[1:]:
        heads = re.findall(r"^- ((?:`\w+`, )*`\w+`): \S", section, re.MULTILINE)
        names = [name for head in heads for name in re.findall(r"\w+", head)]
        assert len(set(names)) == len(names)
        described[section.split("\n", 1)[0]] = set(names)
    fields = {name: set(one["properties"]) for name, one in schema()["$defs"].items() if "properties" in one}
    assert described == fields


@pytest.fixture(scope="module")
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("modes", [("strong",), ("strong", "weak")])
def test_reports_are_valid(validator, modes):
    measured = runs({"1x1": 1.0, "1x2": 0.75, "2x1": 0.55}) + runs({"2x1": 1.1}, batch_size=16)
    made = json.loads(json.dumps(asdict(report(measured, points="1x1,1x2,2x1", modes=modes)), allow_nan=False))
    validator.validate(made)
    assert len(made["series"]) == len(modes)


def test_a_report_of_a_loss_to_come_to_is_valid(validator):
    measured = runs({"1x1": 1.0, "2x1": 0.55}) + runs({"2x1": 1.1}, batch_size=16, disturbance=0.5)
    learned = [learning_run(8, [6.0, 4.0, 2.0]), learning_run(16, [6.0, 5.0])]
    made = asdict(report(measured, points="1x1,2x1", learned=learned))
    validator.validate(json.loads(json.dumps(made, allow_nan=False)))
    assert [batch["reached"] is None for batch in made["to_loss"]["batches"]] == [False, True]


def test_a_report_of_one_process_is_valid(validator):
    validator.validate(json.loads(json.dumps(asdict(report([])), allow_nan=False)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1}, "was expected"),
        ({"parameters": "many"}, "'many' is not of type 'integer'"),
        ({"measurements": {"peaks": [{"one_core": 1.0, "all_cores": 2.0}]}}, "'cores' is a required property"),
    ],
)
def test_what_is_no_report_is_not_valid(validator, change, message):
    made = json.loads(json.dumps(asdict(report())))
    for name, value in change.items():
        made[name] = made[name] | value if isinstance(value, dict) else value
    (error,) = validator.iter_errors(made)
    assert message in error.message


def test_fields_that_are_not_known_do_no_harm(validator):
    validator.validate(json.loads(json.dumps(asdict(report()))) | {"of_a_later_version": 1})
