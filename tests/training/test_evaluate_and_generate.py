"""The two commands that use a finished run."""

import dataclasses
import importlib.util
import io
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dist_llm import evaluate as evaluate_command
from dist_llm import generate, load
from dist_llm.config import ModelConfig
from dist_llm.data.loader import CountedTokens, TokensInMemory
from dist_llm.errors import UserError
from dist_llm.inference.evaluation import evaluate
from dist_llm.model.llama import Llama
from dist_llm.parallel.comm import SerialComm
from dist_llm.training.metrics import read_metrics
from tests.oracles.plain import plain_cross_entropy


@pytest.fixture
def trained(run, train_arguments, tmp_path):
    result = run(0, *train_arguments("run", "--train.max_steps=4", "--train.eval_interval=2"))
    assert result.returncode == 0, result.stderr
    return tmp_path / "run"


class Words:
    token_bytes = (b"abc",) * 11


class Tokens:
    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_bytes(self) -> int:
        return 3 * len(self.tokens)

    def read(self, start: int, count: int) -> np.ndarray:
        return self.tokens[start : start + count]


@pytest.mark.parametrize("n", [2, 9, 17, 50, 65])
def test_every_token_but_the_first_is_predicted_once(n):
    model = Llama(ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=12, max_seq_len=16, init_std=0.5), 11)
    model.params.initialize(np.random.default_rng(0))
    tokens = np.random.default_rng(1).integers(0, 11, n)
    expected = 0.0
    for start in range(0, n - 1, 16):
        window = tokens[start : start + 17]
        expected += plain_cross_entropy(model.logits(window[None, :-1])[0], window[1:])
    result = evaluate(model, Tokens(tokens), Words(), SerialComm(), batch_size=2)
    assert result.n_tokens == n - 1
    assert result.loss == pytest.approx(expected / (n - 1), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(result.loss))
    assert result.bits_per_byte == pytest.approx(expected / math.log(2) / (3 * (n - 1)), rel=1e-5)


def test_only_what_counts_is_measured():
    model = Llama(ModelConfig(dim=8, n_layers=1, n_heads=2, ffn_dim=12, max_seq_len=16, init_std=0.5), 11)
    model.params.initialize(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    tokens, counted = rng.integers(0, 11, 50), rng.integers(0, 2, 50)
    expected = 0.0
    for start in range(0, 49, 16):
        window, marks = tokens[start : start + 17], counted[start + 1 : start + 17].astype(bool)
        expected += plain_cross_entropy(model.logits(window[None, :-1])[0][marks], window[1:][marks])
    some = CountedTokens(TokensInMemory(tokens, "", 150), TokensInMemory(counted, "", 0))
    result = evaluate(model, some, Words(), SerialComm(), batch_size=2)
    n = int(counted[1:].sum())
    assert result.n_tokens == n
    assert result.loss == pytest.approx(expected / n, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(expected / math.log(2) / (3 * n), rel=1e-5)


def test_evaluate_prints_what_training_measured(run, trained):
    result = run(0, "-m", "dist_llm.evaluate", "run", "--threads=1")
    assert result.returncode == 0, result.stderr
    numbers = json.loads(result.stdout)
    last = read_metrics(trained)[-1]
    assert numbers["step"] == 4
    assert numbers["loss"] == last["val_loss"]
    earlier = run(0, "-m", "dist_llm.evaluate", "run/checkpoints/step-00000002", "--threads=1")
    assert json.loads(earlier.stdout)["loss"] == read_metrics(trained)[1]["val_loss"]


def evaluated(capfd, *arguments: object) -> dict:
    assert evaluate_command.main([*map(str, arguments), "--threads=1"], SerialComm()) == 0
    return json.loads(capfd.readouterr().out)


DOCUMENTS = ["the king and his men", "went up the hill\nand down the hill, all of them", "the"]


def test_any_text_is_measured(trained, tmp_path, capfd):
    model = load(trained)
    (tmp_path / "whole.txt").write_text(DOCUMENTS[1])
    found = evaluated(capfd, trained, "--text", tmp_path / "whole.txt")
    score = dataclasses.asdict(model.score(DOCUMENTS[1]))
    assert found == {"run": str(trained), "step": 4} | score
    assert found["n_tokens"] == len(DOCUMENTS[1])
    assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2))


def test_each_document_of_a_text(trained, tmp_path, capfd):
    model = load(trained)
    (tmp_path / "divided.txt").write_text("\n<|endoftext|>\n".join(DOCUMENTS))
    found = evaluated(capfd, trained, "--text", tmp_path / "divided.txt", "--per-document")
    assert [part.pop("begins") for part in found["documents"]] == [text[:40] for text in DOCUMENTS]
    assert found["documents"] == [dataclasses.asdict(model.score(text)) for text in DOCUMENTS]
    nats = sum(part["loss"] * part["n_tokens"] for part in found["documents"])
    assert found["n_tokens"] == sum(map(len, DOCUMENTS))
    assert found["loss"] == pytest.approx(nats / found["n_tokens"], rel=1e-12)
    short = evaluated(capfd, trained, "--text", tmp_path / "divided.txt")
    assert "documents" not in short
    assert short["loss"] == found["loss"]


def test_a_foreign_model_needs_a_text(trained, tmp_path, capfd):
    """Each checkpoint is a model to Hugging Face; taken out of its run, it is to us as well."""
    shutil.copytree(trained / "checkpoints/step-00000004", tmp_path / "foreign")
    (tmp_path / "foreign/state.json").unlink()
    (tmp_path / "text.txt").write_text(DOCUMENTS[1])
    found = evaluated(capfd, tmp_path / "foreign", "--text", tmp_path / "text.txt")
    assert "step" not in found
    own = evaluated(capfd, trained, "--checkpoint=last", "--text", tmp_path / "text.txt")
    assert found["loss"] == pytest.approx(own["loss"], rel=1e-6)
    with pytest.raises(UserError, match="has no validation text of its own: name a text with --text"):
        evaluated(capfd, tmp_path / "foreign")


def test_a_flipped_byte_anywhere_in_the_shards_is_told(trained, tmp_path, capfd):
    state = json.loads((trained / "checkpoints/step-00000004/state.json").read_text())
    evaluated(capfd, trained)
    for path in Path(state["shards"]).glob("*.bin"):
        content = path.read_bytes()
        for i in (3, 20, 70, 99, 127, 128, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
            with pytest.raises(UserError, match=f"the token shard {path} cannot be used"):
                evaluated(capfd, trained)
        path.write_bytes(content)
    evaluated(capfd, trained)


@pytest.mark.mpirun
def test_a_flipped_byte_is_one_line_on_any_number_of_ranks(run, trained):
    state = json.loads((trained / "checkpoints/step-00000004/state.json").read_text())
    path = Path(state["shards"]) / "val-00000.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    result = run(2, "-m", "dist_llm.evaluate", "run", "--threads=1")
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert "val-00000.bin cannot be used (its checksum is wrong)" in line
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "cannot read text.txt .No such file or directory.: name a UTF-8 text file"),
        (b"", [], "text.txt holds no text"),
        (b"caf\xe9", [], "text.txt is not UTF-8 text: convert it first"),
        (b"text", ["--shards=x"], "argument --shards: not allowed with argument --text"),
    ],
)
def test_a_text_that_cannot_be_measured(trained, tmp_path, monkeypatch, capfd, content, arguments, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        evaluated(capfd, "run", "--text=text.txt", *arguments)
    with pytest.raises(UserError, match="--per-document goes with --text"):
        evaluated(capfd, "run", "--per-document")


def test_generate_continues_the_prompt_the_same_way_for_the_same_seed(run, trained):
    command = ["-m", "dist_llm.generate", "run", "--prompt", "the king", "--max-tokens", "30"]
    first, again, other = (run(0, *command, "--seed", seed) for seed in (1, 1, 2))
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("the king")
    assert first.stdout == again.stdout != other.stdout
    assert "tokens/s]" in first.stderr


def test_several_samples_a_stop_text_and_a_prompt_from_stdin(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def generated(*more: str) -> tuple[str, str]:
        assert generate.main(["run", "--max-tokens=30", *more], SerialComm()) == 0
        return tuple(capfd.readouterr())

    alone, err = generated("--prompt=the king")
    assert "context of 16 tokens is full" in err
    out, err = generated("--prompt=the king", "--samples=3")
    assert err.count("is full") == 1
    parts = out.split("--- sample ")[1:]
    assert [part[:11] for part in parts] == ["1 of 3 ---\n", "2 of 3 ---\n", "3 of 3 ---\n"]
    assert parts[0] == f"1 of 3 ---\n{alone}"
    assert len({part[11:] for part in parts}) == 3
    text = alone.removeprefix("the king").removesuffix("\n")
    stop = text[5:8]
    if importlib.util.find_spec("numba"):
        assert generated("--prompt=the king", "--compile")[0] == alone
    assert generated("--prompt=the king", "--stop", stop)[0] == f"the king{text.partition(stop)[0]}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the king\n")))
    assert generated("--prompt", "-")[0] == alone
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    with pytest.raises(UserError, match="the prompt on stdin is not UTF-8"):
        generated("--prompt", "-")
    monkeypatch.setattr(sys, "stdin", io.StringIO("the king\n"))
    assert generated("--interactive")[0] == alone.removeprefix("the king")
    with pytest.raises(UserError, match="leave --prompt and --samples out"):
        generated("--interactive", "--samples=2")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UserError, match="pip install 'dist_llm"):
        generated("--compile")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no run folder nowhere"),
        ([], "the following arguments are required: RUN"),
        (["run", "--temperature=-1"], "temperature must be 0 or above, not -1.0"),
        (["run", "--top-p=2"], "top-p must lie in (0, 1], not 2.0"),
        (["run", "--max-tokens=-1"], "argument --max-tokens: takes a whole number from 0 on, not '-1'"),
        (["run", "--threads=0"], "argument --threads: takes a whole number from 1 on, not '0'"),
        (["run", "--tmperature=1"], "unknown option --tmperature=1; did you mean --temperature?"),
    ],
)
def test_generate_refuses_in_one_line(run, trained, arguments, message):
    result = run(0, "-m", "dist_llm.generate", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_prompt_outside_the_vocabulary(run, train_arguments):
    assert run(0, *train_arguments("run", "--train.max_steps=1", "--data.tokenizer=char")).returncode == 0
    result = run(0, "-m", "dist_llm.generate", "run", "--prompt", "the €")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "€" in result.stderr
    assert result.stderr.count("\n") == 1
