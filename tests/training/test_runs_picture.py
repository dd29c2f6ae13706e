"""Runs in one picture: each with its name and its best loss, nothing over anything else."""

import re

import pytest

from dist_llm.training.picture import shortened
from dist_llm.training.runs_picture import MOST_NAMED, draw_runs
from dist_llm.training.summary import RunSummary, summarize
from tests.training.pictures import Drawn, made_up, written

pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch):
    """The last picture."""
    return Drawn(monkeypatch)


def summaries(tmp_path, runs: dict[str, list[dict]]) -> list[RunSummary]:
    return [summarize(written(tmp_path / name, records)[0]) for name, records in runs.items()]


def better(loss: float, records: list[dict]) -> list[dict]:
    """Return the records of a run that is so much better."""
    return [r | {key: r[key] - loss for key in ("loss", "val_loss") if key in r} for r in records]


@pytest.mark.parametrize("n", [1, 2, 12, 28, 40])
def test_no_text_overlaps_or_is_cut_off(tmp_path, drawn, n):
    runs = {
        f"{i:02d}-one-of-many-runs-with-a-name-that-is-long-{i}": better(0.01 * i, made_up(60, 10, seed=i))
        for i in range(n)
    }
    assert draw_runs(summaries(tmp_path, runs), tmp_path / "runs.png") == tmp_path / "runs.png"
    drawn.check_that_no_text_overlaps_or_is_cut_off()
    named = [text for text in drawn.words if "★ 2." in text or "★ 3." in text]
    assert len(named) == min(n, MOST_NAMED)
    assert (f"{n - MOST_NAMED} more" in drawn.words) == (n > MOST_NAMED)
    assert f"{shortened(list(runs)[-1], 24)} ★ {3.2 - 0.01 * (n - 1):.4f}" in named  # the best has a name


def test_what_was_reached_by_tokens_and_by_time(tmp_path, drawn):
    runs = {
        "slow": made_up(100, 20, tokens_per_s=100.0),
        "fast": better(-0.5, made_up(100, 20, tokens_per_s=1000.0)),
        "no-evaluation": made_up(100, tokens_per_s=500.0),
    }
    draw_runs(summaries(tmp_path, runs), tmp_path / "runs.png")
    assert "validation loss of 3 runs" in drawn.words
    assert {"slow ★ 3.2000", "fast ★ 3.7000"} <= {*drawn.words}
    assert any(re.fullmatch(r"no-evaluation training (2\.9|3\.0)\d{3}", text) for text in drawn.words)
    assert {"tokens seen (thousands)", "time in steps and evaluations (minutes)"} <= {*drawn.words}
    by_tokens, by_time = ([line.get_xydata()[-1].tolist() for line in drawn.lines("*", axes)] for axes in (0, 1))
    assert by_tokens == [[100_000, pytest.approx(3.2)], [100_000, pytest.approx(3.7)]]
    assert by_time == [[pytest.approx(1037.5), pytest.approx(3.2)], [pytest.approx(137.5), pytest.approx(3.7)]]


def test_a_run_that_diverged_does_not_hide_the_others(tmp_path, drawn):
    bad = [r | {"val_loss": 1e6 * r["step"]} if "val_loss" in r else r for r in made_up(100, 20)]
    draw_runs(summaries(tmp_path, {"good": made_up(100, 20), "bad": bad}), tmp_path / "runs.png")
    _, high = drawn.figure.axes[0].get_ylim()
    assert high < 10
    assert {"good ★ 3.2000", "bad ★ 2.0000e+07"} <= {*drawn.words}
    assert "★ the best evaluation of each; losses of up to 1.000e+08 are cut off" in drawn.words
    drawn.check_that_no_text_overlaps_or_is_cut_off()


def test_the_best_of_all_are_seen(tmp_path, drawn):
    once = [better(-0.5 * i, made_up(40, 40)) for i in range(4)]  # an evaluation each
    ill = [r | {"val_loss": r["val_loss"] + 0.4 * r["step"]} if "val_loss" in r else r for r in made_up(100, 20)]
    runs = {f"once-{i}": records for i, records in enumerate(once)}
    for more in ({}, {"ill": ill}):  # whose best evaluation is at 11.2, and its last one at 43
        draw_runs(summaries(tmp_path, runs | more), tmp_path / "runs.png")
        _, high = drawn.figure.axes[0].get_ylim()
        assert high > (11.2 if more else 4.7)
        assert high < (12 if more else 5)
        assert any("43.20 are cut off" in text for text in drawn.words) == bool(more)


def test_the_better_of_two_runs_does_not_hide_the_other(tmp_path, drawn):
    runs = {"one": made_up(40, 40), "other": better(-0.5, made_up(40, 40))}  # an evaluation each
    draw_runs(summaries(tmp_path, runs), tmp_path / "runs.png")
    assert drawn.figure.axes[0].get_ylim()[1] > 3.7


def test_of_one_run_and_of_none(tmp_path, drawn):
    draw_runs(summaries(tmp_path, {"only": made_up(30)}), tmp_path / "runs.png")
    assert "training loss of only" in drawn.words
    assert not any("★" in text for text in drawn.words)
    assert draw_runs([RunSummary(tmp_path, "broken: it is empty")], tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()
