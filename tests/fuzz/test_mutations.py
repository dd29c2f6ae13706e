"""No file that a stranger may have made is more than a line of complaint: mutations, and what a grammar makes.

The same examples each time, and few of them; `python -m tests.fuzz.mutate` makes ten thousand of each kind.
"""

import dataclasses
import json
import tomllib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dist_llm.config import SECTIONS, Config
from dist_llm.errors import UserError
from dist_llm.settings import Settings, to_toml
from dist_llm.training.begin import Fresh
from tests.fuzz.kinds import Kind, make_kinds, sign_checkpoint, sign_config
from tests.fuzz.mutate import attempt
from tests.fuzz.mutations import mutate

BRIEFLY = settings(
    derandomize=True, database=None, deadline=None, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(scope="session")
def kinds(tmp_path_factory) -> dict[str, Kind]:
    return {kind.name: kind for kind in make_kinds(tmp_path_factory.mktemp("fuzz"))}


SEEDS = st.integers(0, 2**32 - 1)


@settings(BRIEFLY, max_examples=20)
@given(seed=SEEDS)
def test_a_mutation_is_refused_in_a_line_or_changes_nothing_that_a_checksum_guards(kinds, seed):
    mutation_of = np.random.default_rng(seed)
    for kind in kinds.values():
        original = kind.path.read_bytes()
        result = attempt(kind, original, mutate(original, mutation_of), kind.read())
        assert result in ("refused", "equal", "other"), f"{kind.name}: {result}"
        assert kind.path.read_bytes() == original


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=8,
)


def keys_of(document: object) -> list[tuple[str, ...]]:
    """The paths of the keys in a document of JSON; of a vocabulary, a few will do."""
    paths = []
    for key, value in list(document.items())[:20] if isinstance(document, dict) else ():
        paths += [(key,), *((key, *rest) for rest in keys_of(value))]
    return paths


@pytest.mark.parametrize(
    "name",
    [
        "state.json, signed", "config.json, signed", "meta.json of shards", "theirs: config.json", "theirs: index.json",
        "tokenizer.json, bpe", "tokenizer.json, char", "tokenizer.json, byte",
    ],
)  # fmt: skip
def test_any_json_in_the_place_of_a_value(kinds, name):
    kind = kinds[name]
    original, expected = kind.path.read_bytes(), kind.read()
    paths = keys_of(json.loads(original))

    @BRIEFLY
    @given(path=st.sampled_from(paths), value=JSON)
    def check(path, value):
        document = json.loads(original)
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        result = attempt(kind, original, json.dumps(document).encode(), expected)
        assert result in ("refused", "equal", "other"), f"{path}: {result}"

    check()


KEYS = [f"{section}.{key}" for section, fields in SECTIONS.items() for key in fields]
VALUES = st.one_of(
    st.integers(-(10**30), 10**30).map(str), st.floats().map(str), st.booleans().map(lambda b: str(b).lower()),
    st.text(max_size=10).map(json.dumps), st.sampled_from(["[]", "{}", "[[1]]", "1979-05-27", "''", "{x={y=1}}"]),
)  # fmt: skip


@BRIEFLY
@given(entries=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=6), junk=st.text(max_size=20))
def test_any_configuration_is_one_or_a_line_of_complaint(tmp_path_factory, entries, junk):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(
        "\n".join([*(f"{key} = {value}" for key, value in entries.items()), junk]).encode(errors="replace")
    )
    try:
        config = Fresh.plan(Settings((str(path),))).config
    except UserError as refusal:
        told = str(refusal)
    else:
        told = "any.toml"
        assert Config().replace(tomllib.loads(to_toml(config))) == config
    assert told.isprintable()
    assert "any.toml" in told or any(key in told for key in KEYS)


def test_what_mutations_find_they_would_find(kinds):
    """The figures mean something: a reader that lets all through, or fails, is told."""
    kind = kinds["config.toml"]
    original, expected = kind.path.read_bytes(), kind.read()
    blind = dataclasses.replace(kind, read=lambda: kind.path.read_bytes())
    assert attempt(blind, original, original + b"#", original) == "damage"
    failing = dataclasses.replace(kind, read=lambda: json.loads(kind.path.read_bytes()))
    assert attempt(failing, original, original, expected).startswith("failed:Traceback")
    assert attempt(kind, original, original, expected) == "equal"
    assert attempt(kind, original, original[:-1], expected) == "refused"


def test_a_signature_of_what_is_unchanged_changes_nothing(kinds):
    run = kinds["config.toml"].path.parent
    checkpoint = run / "checkpoints/step-00000002"
    before = [(run / "config.toml").read_bytes(), (checkpoint / "state.json").read_bytes()]
    sign_config(run)
    sign_checkpoint(checkpoint)
    assert [(run / "config.toml").read_bytes(), (checkpoint / "state.json").read_bytes()] == before
