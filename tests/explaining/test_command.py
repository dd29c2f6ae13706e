import pytest

from dist_llm.explain import main
from dist_llm.parallel.program import run as run_program


@pytest.fixture
def trained(run, train_arguments, tmp_path, monkeypatch):
    result = run(0, *train_arguments("run", "--train.max_steps=2"))
    assert result.returncode == 0, result.stderr
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_a_run_a_checkpoint_and_another_file(trained, tmp_path, capfd):
    assert run_program(main, ["run", "--text", "the king"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("explain.html: 8 tokens, ")
    assert out.endswith(" bits each; open it in a browser\n")
    assert err == ""
    assert "run reads a text" in (tmp_path / "explain.html").read_text()
    checkpoint = next((trained / "checkpoints").iterdir())
    assert run_program(main, [str(checkpoint), "--text", "the king", "--out", "other.html"]) == 0
    assert "after step 2" in (tmp_path / "other.html").read_text()


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("run", ["--text", ""], "the text is empty: give it at least a word"),
        (
            "run",
            ["--text", 16 * "a"],
            "the text has 17 tokens, with the one before its first, and the context 16: shorten it",
        ),
        ("nowhere", ["--text", "a"], "there is no run folder nowhere"),
        ("run", [], "the following arguments are required: --text (--help lists the options)"),
        ("run", ["--text", "a", "--out", "run"], "cannot write run (Is a directory): name another file with --out"),
        (
            "run",
            ["--text", "a", "--out", "no/x"],
            "cannot write no/x (No such file or directory): name another file with --out",
        ),
    ],
)
def test_a_mistake_is_one_line(trained, source, more, message, capfd):
    assert run_program(main, [source, *more]) == 2
    assert capfd.readouterr() == ("", f"error: {message}\n")
