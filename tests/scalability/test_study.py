"""How long is measured: until it is known well enough, however the machine is disturbed, and not beyond patience."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dist_llm.config import Config
from dist_llm.errors import RunError
from dist_llm.measuring.jobs import Launcher
from dist_llm.measuring.peak import Peak
from dist_llm.parallel.placement import Placement
from dist_llm.parallel.strategy import Traffic
from dist_llm.scalability import study as study_module
from dist_llm.scalability.learning_run import LearningRun
from dist_llm.scalability.measurements import LossTarget, Measurements, Method
from dist_llm.scalability.operations import Timings
from dist_llm.scalability.points import Point, make_series
from dist_llm.scalability.study import Study
from dist_llm.scalability.training_run import Training
from tests.scalability.synthetic import CONFIG, one_run

POINTS = [Point(1, 1), Point(2, 1)]
JOB_S = 10.0  # what a job takes, by the clock of these tests


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Measurements]:
    """Measure two points in jobs that say what ``answer(point, number of the job)`` says: step_s and disturbance."""
    now, jobs = [0.0], [0]

    def measure(
        answer: Callable[[Point, int], tuple[float, float]],
        to_loss: LossTarget | None = None,
        failing: int = 0,
        **method: Any,
    ) -> Measurements:
        def run_job(launcher: Launcher, point: Point, task: dict[str, Any], kind: type) -> Any:
            now[0] += JOB_S
            if kind is Timings:
                return Timings(Traffic("all-reduce", 1024), [1024], [[1e-6]], 1e-10, "MPI")
            if kind is LearningRun:
                train = Config().replace(task["config"]).train
                if train.batch_size == failing:
                    raise RunError("out of memory")
                return LearningRun(
                    train.batch_size, str(point), 0.0, train.max_steps, [0, 9], [6.0, task["to_loss"]], []
                )
            step_s, disturbance = answer(point, jobs[0])
            jobs[0] += 1
            batch_size = task["config"]["train"]["batch_size"]
            run = one_run(0, point, step_s, batch_size=batch_size, disturbance=disturbance)
            return Training(**{name: getattr(run, name) for name in Training.__dataclass_fields__})

        monkeypatch.setattr(study_module, "run_job", run_job)
        monkeypatch.setattr(study_module, "prepare_peak", lambda cores: lambda: Peak(1.0, 2.0, 2))
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        how = Method(**{"repeats": 6, "steps": 1, "seconds": 0.0, "patience_s": 600.0} | method)
        measured = Measurements(CONFIG, [make_series("strong", POINTS, 8)], 8, 2, how, to_loss=to_loss)
        Study(Launcher(("mpirun",)), Placement("here", (0, 1), 2, "openblas"), measured).run()
        return measured

    return measure


def test_a_quiet_machine_takes_the_least_rounds(measure):
    measured = measure(lambda point, job: (1.0 / point.ranks, 0.0))
    assert len(measured.runs) == 6 * 2
    assert [run.round for run in measured.runs if run.point == "2x1"] == list(range(6))


def test_rounds_go_on_until_the_interval_is_narrow_enough(measure):
    noise = [1.0, 1.04, 0.97, 1.02, 0.99, 1.01, 1.0, 1.03, 0.98]
    measured = measure(lambda point, job: (noise[job % 9] / point.ranks, 0.0), width=0.03)
    assert 6 < len(measured.peaks) < 40


def test_and_at_the_longest_until_patience_is_at_its_end(measure):
    noise = [1.0, 1.4, 0.7]
    measured = measure(lambda point, job: (noise[job % 3] / point.ranks, 0.0), patience_s=100.0)
    assert len(measured.runs) == 6 * 2 + 100 / JOB_S
    assert len(measure(lambda point, job: (noise[job % 3], 0.0), patience_s=0.0).runs) == 6 * 2


def test_a_disturbed_run_is_measured_again_in_its_round(measure):
    measured = measure(lambda point, job: (1.0 / point.ranks, 0.3 if job in (0, 3, 4) else 0.0))
    assert [run.round for run in measured.runs if run.disturbed] == [0, 1, 1]
    for name in ("1x1", "2x1"):
        assert [run.round for run in measured.runs if run.point == name and not run.disturbed] == list(range(6))


def test_what_is_disturbed_all_the_time_ends_with_patience(measure):
    measured = measure(lambda point, job: (1.0, 0.5), patience_s=100.0)
    assert all(run.disturbed for run in measured.runs)
    assert len(measured.runs) <= 6 * 2 + 100 / JOB_S + 2
    assert len(measured.peaks) >= 6


def test_only_what_is_not_settled_is_measured_further(measure):
    """Of three points, the steady one is left alone after six rounds; the reference is in all."""
    noise = [1.0, 1.5, 0.7, 1.2]
    POINTS.append(Point(4, 1))
    try:
        measured = measure(lambda p, job: (noise[job % 4] if p.ranks == 4 else 1.0 / p.ranks, 0.0), patience_s=60.0)
    finally:
        POINTS.pop()
    further = {run.point for run in measured.runs if run.round >= 6}
    assert further == {"1x1", "4x1"}


BATCHES = LossTarget(3.0, [make_series("strong", POINTS, size) for size in (1, 8, 16)])


def test_batches_that_are_to_come_to_a_loss_join_the_rounds_and_learn_where_they_are_fastest(measure):
    """Batches of 8 are measured once for both series, and one sequence is for one rank."""
    measured = measure(lambda point, job: (1.0 / point.ranks, 0.0), BATCHES)
    assert Counter((run.point, run.batch_size) for run in measured.runs) == dict.fromkeys(
        [("1x1", 8), ("2x1", 8), ("1x1", 1), ("1x1", 16), ("2x1", 16)], 6
    )
    assert [(run.batch_size, run.point, run.max_steps) for run in measured.learned] == [
        (1, "1x1", 2400), (8, "2x1", 300), (16, "2x1", 150),
    ]  # fmt: skip
    assert measured.failures == {}
    assert [run.point for run in measure(lambda p, job: (1.0 * p.ranks, 0.0), BATCHES).learned] == ["1x1"] * 3


def test_a_batch_that_cannot_learn_is_missing(measure):
    measured = measure(lambda point, job: (1.0 / point.ranks, 0.0), BATCHES, failing=8)
    assert [run.batch_size for run in measured.learned] == [1, 16]
    assert measured.failures == {"learning from batches of 8": "out of memory"}
