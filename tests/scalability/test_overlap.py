"""The simulation against one that takes tiny steps, and the rates against what they were made from."""

import numpy as np
import pytest

from dist_llm.scalability.overlap import KEPT, Beside, Overlap, simulate
from dist_llm.seeding import generator

# Gradients of four layers, the last of which with the embedding.
FINAL = [(0.0, 0.02), (0.25, 0.3), (0.5, 0.5), (0.75, 0.8), (0.95, 0.99), (1.0, 1.0)]


def in_tiny_steps(ready, window_s, message_s, progress, lost, steps=40_000) -> tuple[float, float]:
    """Let wall time go on, and look at each moment what is under way: seconds waited, and by how much it is slower."""
    tick_s = window_s / steps
    computed_s = wall_s = 0.0
    queue: list[float] = []
    waiting = list(ready)
    while computed_s < window_s:
        while waiting and computed_s >= waiting[0] * window_s:
            waiting.pop(0)
            queue.append(message_s)
        speed = 1.0
        if queue:
            speed = 1 - progress * lost
            queue[0] -= progress * tick_s
            if queue[0] <= 0:
                over = queue.pop(0)
                if queue:
                    queue[0] += over
        computed_s += speed * tick_s
        wall_s += tick_s
    return sum(queue) + message_s * len(waiting), wall_s - window_s


@pytest.mark.parametrize("seed", range(12))
def test_as_one_that_takes_tiny_steps(seed):
    rng = generator(seed, "overlap")
    messages = int(rng.integers(1, 30))
    ready = [*sorted(rng.random(messages - 1).tolist()), 1.0]
    message_s = float(10 ** rng.uniform(-1, 0.3)) / messages  # a tenth of the pass to twice as long, in all
    progress, lost = float(rng.uniform(0.2, 1)), float(rng.uniform(0, 0.85))
    exposed_s, slowed_s = in_tiny_steps(ready, 1.0, message_s, progress, lost)
    hidden = simulate(ready, 1.0, message_s, progress, lost)
    assert hidden.exposed_s == pytest.approx(exposed_s, abs=2e-3)
    assert hidden.slowed_s == pytest.approx(slowed_s, abs=2e-3)


def test_by_hand():
    # Three reductions of 0.2 s: two begin at half of a pass of 1 s, and have ended when the third begins, at its end.
    hidden = simulate([0.5, 0.5, 1.0], 1.0, 0.2, progress=1.0, lost=0.0)
    assert (hidden.exposed_s, hidden.slowed_s) == pytest.approx((0.2, 0.0))
    # At half the speed, 0.25 s of the two is done by then; the pass loses a tenth of that.
    hidden = simulate([0.5, 0.5, 1.0], 1.0, 0.2, progress=0.5, lost=0.1)
    assert (hidden.exposed_s, hidden.slowed_s) == pytest.approx((0.6 - 0.25 / 0.95, 0.025 / 0.95))
    # All final at the end, or no progress: all is waited for.
    assert simulate([1.0] * 3, 1.0, 0.2, 1.0, 0.5).exposed_s == pytest.approx(0.6)
    assert simulate([0.0] * 3, 1.0, 0.2, 0.0, 0.5).exposed_s == pytest.approx(0.6)


def test_computation_goes_on_however_fast_the_network():
    hidden = simulate([0.0], 1.0, 100.0, progress=1.0, lost=50.0)
    assert hidden.slowed_s == pytest.approx(1 / KEPT - 1)


def test_more_hides_with_more_time_and_with_better_progress():
    ready = [0.3, 0.3, 0.6, 0.9, 1.0]
    exposed = [simulate(ready, window_s, 0.1, 0.8, 0.1).exposed_s for window_s in np.linspace(0, 2, 20)]
    assert exposed == sorted(exposed, reverse=True)
    assert exposed[0] == pytest.approx(0.5)
    assert exposed[-1] == pytest.approx(0.1)
    exposed = [simulate(ready, 0.5, 0.1, progress, 0.1).exposed_s for progress in np.linspace(0, 1, 20)]
    assert exposed == sorted(exposed, reverse=True)


def test_buckets_begin_when_their_last_gradient_is_final():
    overlap = Overlap(2, FINAL, 1.0, 0.0)
    assert overlap.ready(4) == [0.3, 0.5, 0.8, 1.0]
    assert overlap.ready(1) == [1.0]
    assert overlap.ready(8) == [0.3, 0.3, 0.5, 0.5, 0.8, 0.8, 0.99, 1.0]
    assert overlap.ready(1000)[-1] == 1.0
    assert overlap.ready(1000)[-50:] == [1.0] * 50


def measured(progress: float, lost: float, alone_s: float = 2.0, backward_s: float = 1.0) -> Beside:
    """What a pass and reductions do that go on beside each other at these rates, one of three times disturbed."""
    both_s = backward_s / (1 - progress * lost)
    left_s = alone_s - progress * both_s
    times = ([3 * figure, figure, figure] for figure in (alone_s, left_s, backward_s, both_s, both_s))
    return Beside(FINAL, 1e6, *times)


@pytest.mark.parametrize(("progress", "lost"), [(1.0, 0.0), (0.8, 0.2), (0.3, 1.5)])
def test_rates_are_found_again(progress, lost):
    overlap = Overlap.of(2, measured(progress, lost))
    assert overlap.progress == pytest.approx(progress)
    assert overlap.lost_s_per_byte == pytest.approx(lost * 2.0 / 1e6)  # 1 MB takes 2 s


def test_reductions_that_do_not_go_on_and_a_pass_that_is_not_slower():
    none = Overlap.of(2, Beside(FINAL, 1e6, [1.0], [1.1], [1.0], [1.2], [1.2]))
    assert (none.progress, none.lost_s_per_byte) == (0.0, 0.0)
    faster = Overlap.of(2, Beside(FINAL, 1e6, [1.0], [0.0], [1.0], [0.9], [0.5]))
    assert (faster.progress, faster.lost_s_per_byte) == (1.0, 0.0)
