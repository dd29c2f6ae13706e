"""``loss.png``: what it says, where it puts it, that nothing lies over anything else, and what it reads."""

import re

import numpy as np
import pytest

from dist_llm.training import loss_history
from dist_llm.training.loss_curve import LossCurve
from dist_llm.training.metrics import MetricsReader
from dist_llm.training.metrics_line import line_of
from tests.training.pictures import Drawn, made_up, written

pytest.importorskip("matplotlib")

LONG = "a-very-long-name-of-a-run-with-all-of-its-settings-lr-0.003-dim-1024-seed-17"
DIVERGED = made_up(300, 50) + [
    {**made_up(1, 1)[0], "step": i, "tokens": 1000 * i, "loss": 1e4 * (i - 300), "val_loss": 2e6}
    for i in range(301, 400)
]
RESUMED = made_up(300, 50) + [
    record
    | {"step": 300 + record["step"], "tokens": 300_000 + record["tokens"], "rss_bytes": [1] * 4, "tokens_per_s": 1e6}
    for record in made_up(300, 50)
]
OVERFIT = [r | {"val_loss": 3 + abs(r["step"] - 120) / 50} if r["step"] % 40 == 0 else r for r in made_up(400)]
RUNS = {
    "ordinary": made_up(2000, 200),
    "one step": made_up(1, 1),
    "one step without evaluation": made_up(1),
    "five steps": made_up(5, 5),
    "no evaluation": made_up(200),
    "an evaluation at each step": made_up(150, 1),
    "resumed": RESUMED,
    "spike": made_up(400, 50, spike_at=222),
    "diverged": DIVERGED,
    "overfit": OVERFIT,
    "long": made_up(9000, 1000),
    "slow evaluations": [r | {"val_seconds": 1e5} if "val_loss" in r else r for r in made_up(30, 3)],
    "a slow evaluation": [r | {"val_seconds": 500.0} if r["step"] == 100 else r for r in made_up(200, 100)],
    "a slow stretch": [r | {"tokens_per_s": 5.0} if 100 <= r["step"] < 110 else r for r in made_up(200, 100)],
    "all the same": made_up(30, loss=0.0),
    "huge": made_up(30, loss=9e37),
    "in no time": made_up(30, tokens_per_s=float("inf")),
}


@pytest.fixture
def drawn(monkeypatch):
    """The last picture."""
    return Drawn(monkeypatch)


def draw(tmp_path, records, name="run", **data):
    """Draw the picture of a run with these metrics, and return the axes of tokens and of time."""
    assert LossCurve(*written(tmp_path / name, records, **data)).draw() == tmp_path / name / "loss.png"


@pytest.mark.parametrize("run", RUNS)
def test_no_text_overlaps_or_is_cut_off(run, tmp_path, drawn):
    draw(tmp_path, RUNS[run], name=LONG, path="/elsewhere/a-corpus-of-many-texts.jsonl.gz:3,/b/another.txt:0.5")
    drawn.check_that_no_text_overlaps_or_is_cut_off()
    (axes,) = drawn.figure.axes
    assert axes.bbox.width > (100 if run == "huge" else 500)
    assert axes.bbox.height > 300


def test_title_and_axes_say_what_it_is(tmp_path, drawn):
    draw(tmp_path, made_up(2000, 200), name="run-007")
    assert "run-007" in drawn.words
    assert "training and validation loss: 2.61 million parameters, python-docs, 2 ranks" in drawn.words
    assert {"tokens seen (millions)", "time in steps and evaluations (minutes)", "loss (nats per token)"} <= {
        *drawn.words
    }


@pytest.mark.parametrize(
    ("records", "data", "says"),
    [
        (RESUMED, {}, "training and validation loss: 2.61 million parameters, python-docs, 2 to 4 ranks"),
        (made_up(30, rss_bytes=[1]), {}, "training loss: 2.61 million parameters, python-docs, 1 rank"),
        (
            made_up(3),
            {"path": "/else/a.txt:3,/where/b.txt"},
            "training loss: 2.61 million parameters, a.txt:3, b.txt, 2 ranks",
        ),
        (made_up(3), {"shards": "/else/mine-bpe"}, "training loss: 2.61 million parameters, mine-bpe, 2 ranks"),
    ],
)
def test_the_subtitle_tells_text_and_ranks(tmp_path, drawn, records, data, says):
    draw(tmp_path, records, **data)
    assert says in drawn.words


@pytest.mark.parametrize("name", ["n$a$me^", "漢字", "two\nlines"])
def test_any_name_of_a_folder_can_be_drawn(tmp_path, drawn, name):
    draw(tmp_path, made_up(30, 10), name=name)
    assert name.replace("\n", " ") in drawn.words


def test_the_best_evaluation_is_marked_with_its_value(tmp_path, drawn):
    draw(tmp_path, OVERFIT)
    (star,) = drawn.lines("*")
    assert star.get_xydata().tolist() == [[120_000, 3.0]]
    assert "★ best 3.000\nat 120 thousand tokens" in drawn.words
    assert "validation 8.600" in drawn.words
    draw(tmp_path, made_up(2000, 200))
    (star,) = drawn.lines("*")
    last = made_up(2000, 200)[-1]
    assert star.get_xydata().tolist() == [[last["tokens"], last["val_loss"]]]
    assert "validation\n★ best 3.200" in drawn.words
    draw(tmp_path, made_up(200))
    assert not drawn.lines("*")
    assert not any("validation" in text for text in drawn.words)


@pytest.mark.parametrize("run", ["ordinary", "five steps", "resumed", "a slow evaluation", "a slow stretch", "long"])
def test_both_axes_agree(tmp_path, drawn, run):
    draw(tmp_path, RUNS[run])
    (axes,) = drawn.figure.axes
    (above,) = axes.child_axes
    unit = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}[above.get_xlabel().split("(")[1][:-1]]
    assert above.get_xlim() == axes.get_xlim()
    ticks = [(tick.get_position()[0], unit * float(tick.get_text())) for tick in above.get_xticklabels()]
    assert len(ticks) >= 2
    assert ticks[0] == (0, 0)
    width = axes.get_xlim()[1]
    for place, time in ticks:  # by going through the run, step by step
        tokens = seconds = 0.0
        for record in RUNS[run]:
            took = (record["tokens"] - tokens) / record["tokens_per_s"]
            if seconds + took >= time:
                tokens += (time - seconds) * record["tokens_per_s"]
                break
            seconds, tokens = seconds + took + record.get("val_seconds", 0), record["tokens"]
            if seconds >= time:
                break
        assert place == pytest.approx(tokens, abs=width / 1000)
    below = [(tick.get_position()[0], tick.get_text()) for tick in axes.get_xticklabels()]
    factor = {"": 1, "thousands": 1e3, "millions": 1e6}[(re.search(r"\((.*)\)", axes.get_xlabel()) or ["", ""])[1]]
    assert all(place == pytest.approx(factor * float(text)) for place, text in below)


def test_first_steps_and_spikes_are_cut_off_and_counted(tmp_path, drawn):
    records = made_up(400, 50, spike_at=222)
    draw(tmp_path, records)
    low, high = drawn.figure.axes[0].get_ylim()
    losses = np.array([r["loss"] for r in records])
    n_above = int((losses > high).sum())
    assert f"▲ {n_above} dots above,\nup to 20.00" in drawn.words
    assert 1 < n_above < 40
    assert (losses[40:] > high).sum() == 1
    assert low < losses.min()
    (marks,) = drawn.lines("^")
    width = drawn.figure.axes[0].get_xlim()[1]
    assert np.abs(np.array(marks.get_xdata()) - 222_000).min() < width / 100


def test_all_is_shown_where_little_would_be_cut_off(tmp_path, drawn):
    for records in (OVERFIT, DIVERGED, made_up(15, 5, spike_at=7)):
        draw(tmp_path, records)
        _, high = drawn.figure.axes[0].get_ylim()
        late = [r for r in records if r["tokens"] >= records[-1]["tokens"] / 10]
        assert high > max(r["val_loss"] for r in late if "val_loss" in r)
    assert high > 20
    assert not drawn.lines("^")


def test_the_label_says_how_it_is_smoothed(tmp_path, drawn):
    draw(tmp_path, made_up(2000))
    (label,) = [text for text in drawn.words if text.startswith("training ") and "loss" not in text]
    assert label.endswith("\nexponential average\nwith a half-life of\n20 thousand tokens\ndots: single steps")
    (dots, curve) = drawn.figure.axes[0].lines[:2]
    assert dots.get_ydata().tolist() == [r["loss"] for r in made_up(2000)]
    assert curve.get_ydata().tolist() == loss_history.moving_average(dots.get_xdata(), dots.get_ydata(), 20_000)
    draw(tmp_path, made_up(9000))
    assert any(text.endswith("dots: means of 4") for text in drawn.words)
    draw(tmp_path, made_up(5))
    assert any(re.fullmatch(r"training \d\.\d{3}", text) for text in drawn.words)


def test_it_reads_what_is_new_and_the_picture_is_the_same(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setattr(loss_history, "MOST_POINTS", 100)
    records = made_up(1001, 100)
    run, config = written(tmp_path / "run", records[:1000])
    curve, read = LossCurve(run, config), []
    new_records = MetricsReader.new_records
    with monkeypatch.context() as patched:
        patched.setattr(
            MetricsReader, "new_records", lambda self: (read.append(r["step"]) or r for r in new_records(self))
        )
        assert curve.draw() == run / "loss.png"
        with (run / "metrics.jsonl").open("ab") as file:
            file.write(line_of(records[1000]))
        curve.draw()
    assert read == list(range(1, 1002))
    assert 50 <= len(curve._history.train) <= 100
    content = (run / "loss.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "lines.linewidth": 7}):
        LossCurve(run, config).draw()
    assert (run / "loss.png").read_bytes() == content


def test_without_metrics_there_is_no_picture(tmp_path):
    run, config = written(tmp_path / "run", [])
    assert LossCurve(run, config).draw() is None
    assert not (run / "loss.png").exists()
