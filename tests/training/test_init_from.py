"""A run that begins with the weights of another model: ours or Hugging Face's."""

import json
import shutil

import numpy as np
import pytest

import dist_llm
from dist_llm.config import ModelConfig
from dist_llm.interop.huggingface import write
from dist_llm.model.llama import Llama
from dist_llm.text import load_tokenizer, train_tokenizer
from tests.conftest import TINY
from tests.text.samples import PROSE

# What remains of TINY when the shape is another's.
LIKE_TINY = [option for option in TINY if not option.startswith(("--model", "--data.tokenizer"))]


@pytest.fixture
def llama(tmp_path):
    """A folder of Hugging Face's: a grouped Llama of 300 rows with a BPE of 290 tokens."""
    shape = ModelConfig(dim=16, n_layers=1, n_heads=4, n_kv_heads=2, ffn_dim=24, max_seq_len=4096, rope_theta=700.0)
    model = Llama(shape, 300)
    model.params.initialize(np.random.default_rng(2))
    (tmp_path / "llama").mkdir()
    write(tmp_path / "llama", model, train_tokenizer("bpe", [PROSE], 290))
    return tmp_path / "llama", model


@pytest.fixture
def begin(train, text_file, tmp_path):
    """``begin("run", source, ...)`` trains from the weights of a source; returns (status, stdout, stderr)."""

    def begin(run_dir, source, *more):
        where = [f"--data.path={text_file}", f"--data.cache_dir={tmp_path / 'cache'}", f"--train.run_dir={run_dir}"]
        return train(None, "--init-from", str(source), *LIKE_TINY, *where, *more)

    return begin


def test_training_goes_on_from_the_weights_of_a_hugging_face_model(begin, llama, tmp_path):
    folder, model = llama
    status, out, err = begin("run", folder, "--train.max_steps=1", "--optim.lr=1e-9", "--optim.min_lr=0")
    assert status == 0, err
    assert f"from the weights of {folder}" in out
    config = (tmp_path / "run" / "config.toml").read_text()
    assert "max_seq_len = 2048" in config  # cut: a sequence of a model's whole context can be too long to train on
    assert "n_kv_heads = 2" in config
    assert "vocab_size = 300" in config
    trained = dist_llm.load("run", "last")
    assert trained.tokenizer.fingerprint == load_tokenizer(folder).fingerprint
    np.testing.assert_allclose(trained.model.params.data, model.params.data, atol=1e-7)
    assert dist_llm.load(folder).config.model.max_seq_len == 4096


def test_it_learns_and_can_be_resumed(begin, train, llama, tmp_path):
    folder, _ = llama
    options = ["--model.max_seq_len=16", "--train.checkpoint_interval=5", "--train.keep_checkpoints=9"]
    assert begin("whole", folder, *options, "--train.max_steps=10")[0] == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    shutil.rmtree(folder)  # the run has all that it needs
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    assert train(None, "--resume", "again/checkpoints/step-00000005")[0] == 0
    whole, again = (dist_llm.load(name, "last").model.params.data for name in ("whole", "again"))
    assert np.array_equal(whole, again)


def test_a_run_begins_with_the_weights_of_another_run(begin, train, tmp_path):
    assert train("first", "--train.max_steps=4")[0] == 0
    status, _, err = begin("second", "first", "--train.max_steps=3")
    assert status == 0, err
    assert (tmp_path / "second" / "checkpoints" / "step-00000003").exists()


def test_another_tokenizer_may_be_asked_for(begin, train, llama):
    folder, _ = llama
    assert begin("run", folder, "--data.tokenizer=byte", "--train.max_steps=1")[0] == 0
    assert dist_llm.load("run", "last").tokenizer.kind == "byte"
    assert train("small", "--data.tokenizer=char", "--train.max_steps=1")[0] == 0
    status, _, err = begin("other", "small", "--data.tokenizer=byte", "--train.max_steps=1")
    assert status == 2
    assert "is less than the tokenizer's 257" in err


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", [], "there is no run folder nowhere"),
        ("llama", ["--model.dim=32"], "--init-from takes the shape of llama: model.dim is 16 and cannot become 32"),
        ("llama", ["--resume", "run"], "--resume continues a run, --init-from begins one: give one of them"),
    ],
)
def test_what_cannot_be_is_said(begin, llama, tmp_path, source, options, message):
    status, _, err = begin("run", source, *options)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_existing_tokenizer_cuts_the_text(train, llama, tmp_path):
    folder, _ = llama
    for run_dir, path in (("a", folder / "tokenizer.json"), ("b", folder)):
        status, _, err = train(run_dir, f"--data.tokenizer={path}", "--train.max_steps=1")
        assert status == 0, err
        assert load_tokenizer(tmp_path / run_dir).fingerprint == load_tokenizer(folder).fingerprint
    status, _, err = train("c", "--data.tokenizer=./nowhere.json", "--train.max_steps=1")
    assert status == 2
    assert f"cannot read the tokenizer {tmp_path}/nowhere.json: No such file or directory" in err
    status, _, err = train("c", "--data.tokenizer=word", "--train.max_steps=1")
    assert status == 2
    assert "data.tokenizer is one of byte, char, bpe or a path, such as ./tokenizer.json, not 'word'" in err


def test_generate_and_export_take_a_hugging_face_folder(run, llama, tmp_path):
    folder, model = llama
    result = run(0, "-m", "dist_llm.generate", folder, "--prompt", "def ", "--max-tokens=10", "--temperature=0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip("\n") == dist_llm.load(folder).generate("def ", 10, temperature=0).rstrip("\n")
    result = run(0, "-m", "dist_llm.export", folder, "--format=llama2c", "--out=exported")
    assert result.returncode == 2
    assert "llama2.c has model.rope_theta=10000 fixed in its program, and this model has 700" in result.stderr
    result = run(0, "-m", "dist_llm.export", folder, "--format=huggingface", "--dtype=float16", "--out=exported")
    assert result.returncode == 0, result.stderr
    assert "exported/model.safetensors" in result.stdout
    half = model.params.data.astype(np.float16).astype(np.float32)
    exported = dist_llm.load(tmp_path / "exported")
    assert np.array_equal(exported.model.params.data, half)
