from itertools import pairwise

import pytest

from dist_llm.config import OptimConfig
from dist_llm.optim.schedule import learning_rate

CONFIG = {"lr": 1.0, "min_lr": 0.1, "warmup_steps": 10}


def rates(n: int, **changes) -> list[float]:
    config = OptimConfig(**{**CONFIG, **changes})
    return [learning_rate(step, n, config) for step in range(n)]


def test_warmup_is_linear_and_never_zero():
    assert rates(100)[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])


def test_warmup_does_not_depend_on_the_length_of_the_run():
    assert rates(5) == rates(100)[:5]


def test_cosine_falls_from_lr_to_min_lr():
    lr = rates(110)
    assert lr[9] == 1.0
    assert lr[59] == pytest.approx(0.55)  # half way
    assert lr[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(lr[9:]))


def test_wsd_stays_and_then_falls_linearly():
    lr = rates(100, schedule="wsd", decay_fraction=0.2)
    assert lr[9:80] == [1.0] * 71
    assert lr[80:] == pytest.approx([1 - 0.9 * (i + 1) / 20 for i in range(20)])


def test_constant():
    assert rates(50, schedule="constant")[9:] == [1.0] * 41


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_run_prolonged_beyond_its_decay_stays_at_min_lr(schedule):
    config = OptimConfig(**CONFIG, schedule=schedule)
    assert learning_rate(500, 100, config) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_no_warmup(schedule):
    assert rates(1, warmup_steps=0, schedule=schedule)[0] > 0
