import csv
import io
import re
from dataclasses import replace

import pytest

from dist_llm.measuring.machine import OtherProcess
from dist_llm.measuring.peak import Peak
from dist_llm.measuring.tables import wrap
from dist_llm.parallel.cost import MEMORY, Network
from dist_llm.parallel.topology import Topology
from dist_llm.scalability.communication_sections import communication
from dist_llm.scalability.comparison import read_report
from dist_llm.scalability.output import csv_table, write_report
from dist_llm.scalability.report import make_report
from dist_llm.scalability.sections import sections
from dist_llm.scalability.verdict import warnings
from tests.scalability.synthetic import MACHINE, STRONG, report, runs, study


def test_the_headline():
    line, recommended = report().verdict
    assert line == (
        "strong scaling: 4x1 (ranks x threads) reaches 2,462 tokens/s, 3.08 times 1x1: 76.9 % efficient (76.9..76.9); "
        "1.92 times one process with 4 BLAS threads (1.92..1.92)"
    )
    assert recommended == (
        "recommendation: on this machine start 4 ranks of 1 thread, 3.08 times as fast as one process of 1 thread on "
        "4 times the cores"
    )


def test_ranks_that_lose_to_threads_come_first():
    measured = runs({"1x1": 1.0, "1x4": 0.25, "4x1": 0.325}) + runs({"4x1": 0.7}, batch_size=32)
    made = report(measured, points="1x1,1x4,4x1", modes=("weak", "strong"))
    assert made.verdict[0] == (
        "RANKS LOSE (strong scaling): on 4 cores, one process with 4 BLAS threads is 1.30 times as fast as 4x1, the "
        "best division into ranks (0.77..0.77 of its speed)"
    )
    assert made.verdict[1].startswith("weak scaling: 4x1")


def test_losses_that_differ_are_a_warning_with_all_numbers():
    measured = runs({"1x1": 1.0}) + runs({"2x1": 0.5}, loss=5.1)
    (warning,) = [w for w in report(measured, points="1x1,2x1").warnings if "LOSSES" in w]
    assert warning == (
        "THE LOSSES DIFFER: after 3 steps on the same batches they should be equal to 0.0001, and are 0.02 apart "
        "(2x1 5.100000, 1x1 5.000000): these points do not do the same work, and their speeds cannot be compared"
    )


def test_what_stays_disturbed_has_no_verdict_and_no_projection():
    measured = runs({"1x1": 1.0}, disturbance=0.508) + runs({"2x1": 0.5}, disturbance=0.508)
    made = report(measured, points="1x1,2x1")
    assert made.verdict == [
        "NO VERDICT on strong scaling: 1x1 (other work disturbed 6 of 6 runs), 2x1 (other work disturbed 6 of 6 runs); "
        "nothing is concluded from it",
        "no recommendation: without results of 1x1, 2x1 it is not known which is best",
    ]
    assert made.warnings == [
        "strong scaling, without results: 1x1 (other work disturbed 6 of 6 runs), 2x1 (other work disturbed 6 of 6 "
        "runs)",
        "other programs had up to 50.8 % of the cores' time, other virtual machines up to 0.0 %: end what else runs "
        "here, or give more time with --patience MINUTES",
    ]
    assert (made.communication.base, made.communication.projections, made.communication.validation) == (None, [], [])
    text = "\n".join(part.text() for part in sections(made))
    assert "projection" not in text
    assert "%" not in "".join(cell for row in sections(made)[0].rows[1:] for cell in row[3:6])


def test_a_series_without_a_verdict_comes_before_one_with():
    measured = runs({"1x1": 1.0, "2x1": 0.5}) + runs({"2x1": 1.0}, batch_size=16, disturbance=0.2)
    made = report(measured, points="1x1,2x1", modes=("strong", "weak"))
    assert made.verdict[0].startswith("NO VERDICT on weak scaling: 2x1 (other work disturbed 6 of 6 runs)")
    assert made.verdict[1].startswith("strong scaling: 2x1 (ranks x threads) reaches")


def test_a_division_as_fast_as_threads_is_not_called_faster():
    measured = runs({"1x1": 1.0, "1x2": 0.55}) + runs({"2x1": 0.55}, (0.98, 2.04, 1.02, 0.99, 1.01, 1.02))
    made = report(measured, points="1x1,1x2,2x1")
    assert "not distinguishable from one process with 2 BLAS threads" in made.verdict[0]


def test_intervals_that_are_too_wide_are_named():
    measured = runs({"1x1": 1.0}) + runs({"2x1": 0.55}, (0.9, 2.0, 1.1, 1.0, 1.05, 0.95))
    (wide,) = report(measured, points="1x1,2x1").warnings
    assert wide.startswith("strong scaling: the 95 % intervals of efficiency are wider than the 2 % asked for: 2x1 (")


def test_nothing_that_cannot_be_is_printed():
    """More than n-fold speed, and factors that do not multiply to the efficiency: words, and no figures."""
    measured = runs({"1x1": 1.0, "2x1": 0.4, "4x1": 1.5})
    made = report(measured, points="1x1,2x1,4x1")
    text = "\n".join(part.text() for part in sections(made))
    assert "Amdahl's law, fitted to 2x1, 4x1: no result: " in text
    assert not re.search(r"-\d+\.\d %", text.split("communication:")[0])
    assert [p.karp_flatt for p in made.series[0].points] == [None, None, None]


def test_what_the_machine_itself_does_to_the_figures():
    made = report(runs({"1x1": 1.0, "2x1": 0.5}), points="1x1,2x1")
    assert made.warnings == []
    busy_machine = replace(
        MACHINE, busy_before=[0.9, 0.1, 0.0, 0.0], frequency_governor="powersave",
        others_before=[OtherProcess("stress", 1, 0.9)],
    )  # fmt: skip
    measured = replace(made.measurements, interrupted=True, peaks=[Peak(100.0, 370.0, 4), Peak(95.0, 190.0, 4)])
    interrupted, busy, governor, peak = warnings(measured, made.series, busy_machine)
    assert interrupted == "the measurement was interrupted: its last round is not complete"
    assert (
        busy
        == "before the first run the cores were 25 % busy with stress (0.9 cores): end other work and measure again"
    )
    assert governor.startswith("the cores' frequency is set by 'powersave'")
    assert "on all cores reached 190 to 370 GFLOP/s" in peak


def test_the_model_reproduces_what_it_was_made_from():
    model = report().communication
    assert model.cost_model.latency_s == pytest.approx(2e-6)
    assert model.cost_model.s_per_byte == pytest.approx(1e-10)
    assert model.algorithm_is == "which dist_llm has Open MPI use"
    assert max(abs(sample.error) for sample in model.calibration) < 1e-6
    assert (model.base.point, model.base.ranks_per_host) == ("4x1", 4)
    assert [(v.mode, v.point) for v in model.validation] == [("strong", "2x1"), ("strong", "4x1")]
    # 8 sequences of 112.5 ms and 100 ms of fixed work on one rank: 2 of them on each of four.
    step = model.validation[1].step
    assert step.measured_s == pytest.approx(0.325)
    assert step.predicted_s[0] == pytest.approx(0.325, rel=0.02)
    assert step.error == pytest.approx(step.predicted_s[0] / 0.325 - 1, abs=1e-3)


def numbers_of(made) -> list[str]:
    """What the picture and the page must show of a report."""
    return [
        *(f"{p.tokens_per_s.median:,.0f}" for p in made.series[0].points),
        *(f"{p.efficiency.median * 100:.1f} (" for p in made.series[0].points),
    ]


def test_all_files_hold_the_numbers_of_the_json(tmp_path, capsys):
    made = report()
    write_report(made, tmp_path, [])
    shown = capsys.readouterr().out
    assert read_report(tmp_path).series == made.series
    page = (tmp_path / "report.html").read_text()
    assert shown.startswith(f"\n{wrap(made.verdict[0])}\n")
    for number in numbers_of(made):
        assert number in page
        assert number in shown
    assert "A &lt;fast&gt; CPU" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)  # nothing that is elsewhere
    assert "<script" not in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scaling.csv").read_text())))
    assert [row["point"] for row in rows] == ["1x1", "1x2", "2x1", "1x4", "4x1"]
    for row, p in zip(rows, made.series[0].points, strict=True):
        assert float(row["tokens_per_s_median"]) == p.tokens_per_s.median
        assert float(row["efficiency_low"]) == p.efficiency.interval[0]
        assert float(row["compute_s"]) == p.seconds["compute"]
        assert float(row["loss"]) == made.series[0].losses.by_point[p.point]


def test_without_several_ranks_there_is_still_a_report(tmp_path, capsys):
    made = report(runs({"1x1": 1.0, "1x2": 0.6}), points="1x1,1x2")
    write_report(made, tmp_path, [])
    assert made.verdict[0] == "strong scaling: 1x1 reaches 800 tokens/s; no point of several ranks was measured"
    assert "1x2" in capsys.readouterr().out


def test_oversubscribed_rows_show_no_efficiency():
    measured = runs({"1x1": 1.0, "2x1": 0.55}) + runs({"4x1": 0.5}, warning="take turns")
    made = report(measured, points="1x1,2x1,4x1")
    speeds = sections(made)[0]
    (row,) = [row for row in speeds.rows if row[0] == "4x1"]
    assert row[3:5] == ("-", "-")
    assert row[-1].startswith("oversubscribed: does not count")
    assert "2x1 (ranks x threads)" in made.verdict[0]
    assert any(w.startswith("oversubscribed: 4x1") for w in made.warnings)
    assert made.communication.base.point == "2x1"


def test_energy_and_counters_are_shown_or_the_reason_why_not():
    texts = [" ".join(part.text().split()) for part in sections(report())]
    assert any("energy: not known: no RAPL here" in text for text in texts)
    assert any("instructions per cycle, of computation scaling: not known: no counters" in text for text in texts)
    measured = [replace(run, step_energy_j=40.0 * (1 + run.round)) for run in runs(STRONG, (1,) * 7)]
    (table,) = [part for part in sections(report(measured)) if part.title == "what it takes"]
    assert table.rows[0][-1] == "J per 1,000 tokens"
    assert table.rows[1][-1].startswith("200.0 (")  # 160 J for 800 tokens


def test_projections_are_marked_as_such():
    for section in communication(report().communication)[2:]:
        assert section.title.startswith("projection (not measured): ")
        assert [row[0] for row in section.rows[1:]] == ["16", "32", "64", "128", "256", "512", "1,024"]
    assert communication(None) == []


def test_nothing_is_projected_from_nothing():
    assert report([]).communication.projections == []
    alone = study(runs({"1x1": 1.0}), points="1x1")
    alone.timings.clear()
    assert alone.traffic(Topology(1, 1, MEMORY)).operation == "nonblocking all-reduce"


def test_csv_is_rectangular():
    rows = list(csv.reader(io.StringIO(csv_table(report()))))
    assert {len(row) for row in rows} == {len(rows[0])}


def test_beside_every_projection_stands_how_far_the_model_was_off():
    (projection,) = (s for s in communication(report().communication) if s.title.startswith("projection"))
    words = " ".join(projection.words)
    # 4 ranks foretold from 2: the timings are exact, the steps lack what ranks take from each other.
    assert "held out: fitted to 2 ranks, the model is +0.0 % off an operation of 4 ranks, and " in words
    assert "% off the step of strong 4x1" in words
    assert "since no point with ranks on several hosts was measured" in words
    assert projection.rows[0][-2:] == ("batch for 80 %", "or local steps for 80 %")


def test_where_nothing_can_be_held_out_it_says_so():
    two = study(runs({"1x1": 1.0, "2x1": 0.55}), points="1x1,2x1")
    del two.timings[4]
    made = make_report(two, MACHINE, "", [Network(25, 10)]).communication
    assert made.held_out is None
    assert "held out: nothing, since that takes" in communication(made)[-1].text()


def test_a_model_that_is_far_off_projects_nothing_and_says_why():
    """The last point waits for messages half of the time, and much longer than they take."""
    measured = runs({"1x1": 1.0, "2x1": 0.55}) + runs({"4x1": 0.6}, waiting=(0.5, 0.0))
    made = report(measured, points="1x1,2x1,4x1").communication
    assert (made.base, made.projections) == (None, [])
    assert made.why_not.startswith("the model is -50 % off the step of strong 4x1")
    last = communication(made)[-1]
    assert (last.title, last.words) == ("no projection", [made.why_not])


def test_steps_between_hosts_that_are_foretold_make_a_figure_of_a_range():
    (projection,) = report().communication.projections
    between = replace(report().communication, is_close=True)
    validation = [replace(v, hosts=2) for v in between.validation]
    words = communication(replace(between, validation=validation))[-1].text()
    assert "exposed: simulated, bucket by bucket" in words
    far = communication(replace(between, validation=validation, is_close=False))[-1].text()
    assert "more than 10 %" in far
    assert projection.rows[0].exposed_s[0] < projection.rows[0].exposed_s[1]
