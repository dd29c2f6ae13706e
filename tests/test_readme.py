"""The README's Python runs as it stands there; its length and its links hold."""

import re
import shutil

import numpy as np
import pytest

import dist_llm
from tests.conftest import ROOT
from tests.oracles.plain import plain_cross_entropy

README = (ROOT / "README.md").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("dist_llm/*/README.md")]


def test_the_python_of_the_readme_does_what_it_says(run, train_arguments, tmp_path):
    result = run(0, *train_arguments("runs/run-001", "--train.max_steps=2"))
    assert result.returncode == 0, result.stderr
    shutil.copy(ROOT / "README.md", tmp_path)
    using, training = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "readme.py").write_text(f"{using}\nprint('---')\n{training}")
    result = run(0, "readme.py", HOME=str(tmp_path / "home"))  # where prepared texts are kept
    assert result.returncode == 0, result.stderr
    used, _, trained = result.stdout.partition("\n---\n")
    assert used.startswith("LanguageModel(Llama(")
    assert "The list" in used
    assert re.search(r"\d+\.\d+ \(\d+, \d+\)$", used)
    steps = [line.split() for line in trained.splitlines()[:20]]
    assert [int(step) for step, _ in steps] == list(range(1, 21))
    assert float(steps[-1][1]) < float(steps[0][1]) - 1


def test_it_is_for_the_first_ten_minutes():
    assert len(README.splitlines()) <= 150


def test_links_and_files_are_there():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert link.startswith("https://") or (document.parent / link).exists(), f"{document}: {link}"
    for path in re.findall(r"`([a-z_]+/[a-z_]+\.(?:py|sh|sbatch|toml))`", README):
        assert (ROOT / path).exists() or (ROOT / "dist_llm" / path).exists(), path


def test_a_model_scores_and_predicts_text(run, train_arguments, tmp_path):
    result = run(0, *train_arguments("run", "--train.max_steps=2"))
    assert result.returncode == 0, result.stderr
    model = dist_llm.load(tmp_path / "run")
    assert dist_llm.load(str(tmp_path / "run" / "checkpoints" / "step-00000002")).state["step"] == 2
    assert repr(model).endswith("byte tokens, after step 2)")
    text = "the king"
    tokens = np.concatenate([[model.tokenizer.eot_id], model.tokenizer.encode(text)])
    assert model.logits(text).shape == (len(text), model.tokenizer.vocab_size)
    np.testing.assert_array_equal(model.logits(text), model.model.logits(tokens[None, 1:])[0])
    score = model.score(text)
    assert score.n_tokens == len(text)
    assert score.loss == pytest.approx(plain_cross_entropy(model.model.logits(tokens[None, :-1])[0], tokens[1:]) / 8)
    with pytest.raises(dist_llm.UserError, match="nothing to predict"):
        model.score("")
    with pytest.raises(dist_llm.UserError, match="the text has 17 tokens, and the context 16"):
        model.logits("a" * 17)
    assert model.generate(text, 5, seed=3) == model.generate(text, 5, seed=3)
    assert model.generate(text, 5).startswith(text)
