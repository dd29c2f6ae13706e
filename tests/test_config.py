import tomllib

import pytest

from dist_llm.config import SECTIONS, Config
from dist_llm.errors import UserError
from dist_llm.option import parse_value
from dist_llm.settings import to_toml


def test_defaults_are_valid():
    Config().validated()


def test_toml_round_trip():
    config = Config().replace(
        {
            "model": {"dim": 64, "n_kv_heads": 2, "tie_embeddings": False, "dropout": 0},
            "data": {"path": 'a "quoted" \\ päth\n\x7f\x01.txt'},
            "log": {"sample_prompt": ""},
            "optim": {"lr": 1, "min_lr": 1e-05},
        }
    )
    text = to_toml(config)
    assert Config().replace(tomllib.loads(text)) == config
    assert isinstance(config.optim.lr, float)
    assert isinstance(config.model.dropout, float)
    assert "# peak learning rate" in text


def test_every_field_has_a_meaning():
    for section, fields in SECTIONS.items():
        for key, f in fields.items():
            assert len(f.metadata["help"]) > 10, (section, key)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, r"unknown section \[modle\]; did you mean model\?"),
        ({"model": {"n_layer": 2}}, r"unknown key model.n_layer; did you mean n_layers\?"),
        ({"model": {"zzz": 2}}, r"unknown key model.zzz \(known: dim, "),
        ({"model": 3}, "model is a section"),
        ({"model": {"dim": "64"}}, "model.dim takes a whole number, not '64'"),
        ({"model": {"dim": 64.0}}, "model.dim takes a whole number, not 64.0"),
        ({"model": {"dim": True}}, "model.dim takes a whole number, not True"),
        ({"optim": {"lr": "fast"}}, "optim.lr takes a number, not 'fast'"),
        ({"optim": {"lr": True}}, "optim.lr takes a number, not True"),
        ({"model": {"tie_embeddings": 1}}, "model.tie_embeddings takes true or false, not 1"),
        ({"data": {"path": 7}}, "data.path takes text or none, not 7"),
        (
            {"data": {"tokenizer": "bpee"}},
            "data.tokenizer is one of byte, char, bpe or a path, such as ./tokenizer.json, not 'bpee'",
        ),
    ],
)
def test_unknown_keys_and_wrong_types(values, message):
    with pytest.raises(UserError, match=message):
        Config().replace(values)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("model.dim", "64", 64),
        ("optim.lr", "1e-3", 1e-3),
        ("optim.lr", "3", 3.0),
        ("model.tie_embeddings", "False", False),
        ("model.n_kv_heads", "none", None),
        ("model.n_kv_heads", "2", 2),
        ("data.path", "none", None),
        ("data.path", "a=b", "a=b"),
        ("data.corpus", "python-docs", "python-docs"),
    ],
)
def test_values_from_the_command_line(name, text, value):
    section, key = name.split(".")
    got = parse_value(name, text, SECTIONS[section][key])
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("model.dim", "6.5"), ("optim.lr", "x"), ("model.tie_embeddings", "yes"), ("model.dim", "none")]
)
def test_wrong_values_from_the_command_line(name, text):
    section, key = name.split(".")
    with pytest.raises(UserError, match=f"{name} takes .*, not '{text}'"):
        parse_value(name, text, SECTIONS[section][key])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.dim", 100, r"model.dim=100 must be n_heads=6 times an even head size \(e.g. 96\)"),
        ("model.dim", 6 * 31, "times an even head size"),
        ("model.n_kv_heads", 4, "model.n_kv_heads=4 must divide n_heads=6"),
        ("model.n_layers", 0, "model.n_layers must be above 0, not 0"),
        ("model.dropout", 1.0, "model.dropout must be below 1, not 1.0"),
        ("model.dropout", -0.1, "model.dropout must not be negative"),
        ("model.dropout", float("nan"), "model.dropout must be a finite number, not nan"),
        ("data.val_fraction", 0.0, "data.val_fraction must be above 0"),
        ("optim.lr", float("nan"), "optim.lr must be a finite number, not nan"),
        ("optim.grad_clip", float("inf"), "optim.grad_clip must be a finite number, not inf"),
        ("optim.lr", 10**400, "optim.lr must be a finite number"),
        ("model.norm_eps", 1e200, r"model.norm_eps must be at most 3e\+38, not 1e\+200"),
        ("train.max_steps", 2**63, "train.max_steps must be at most 9223372036854775807, not 9223372036854775808"),
        ("train.max_steps", 10**400, "train.max_steps must be a finite number"),
        ("optim.min_lr", 1.0, "optim.min_lr=1.0 is above optim.lr=0.002: lower --optim.min_lr too"),
        ("optim.decay_fraction", 1.5, "optim.decay_fraction must lie in"),
        ("data.path", "", "data.path is empty: give it a value or leave it out"),
        ("log.sample_prompt", "a\udcff", "log.sample_prompt is not valid UTF-8"),
        ("train.seed", -1, "train.seed must not be negative, not -1"),
        ("train.run_dir", "", "train.run_dir is empty"),
        ("parallel.threads", 0, "parallel.threads must be above 0, not 0"),
    ],
)
def test_values_that_do_not_fit(name, value, message):
    section, key = name.split(".")
    with pytest.raises(UserError, match=message):
        Config().replace({section: {key: value}}).validated()


def test_a_strategy_that_cannot_send_a_format_names_those_that_can():
    for strategy, dtype, able in (("sharded", "float16", "blocking or local"), ("blocking", "int8", "local")):
        config = Config().replace({"parallel": {"strategy": strategy, "reduce_dtype": dtype}})
        with pytest.raises(UserError) as error:
            config.validated()
        assert str(error.value) == (f"parallel.reduce_dtype={dtype} goes with parallel.strategy={able}, not {strategy}")


def test_keys_of_older_versions_are_understood():
    config = Config().replace({"parallel": {"reduction": "local", "wire": "int8"}})
    assert (config.parallel.strategy, config.parallel.reduce_dtype) == ("local", "int8")
