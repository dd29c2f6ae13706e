import numpy as np
import pytest

from dist_llm.optim.clip import CHUNK, clip_grad_norm_


def test_a_long_gradient_is_scaled_and_a_short_one_left_alone():
    grad = np.array([3.0, 4.0])
    assert clip_grad_norm_(grad, 10.0) == 5.0
    assert grad.tolist() == [3.0, 4.0]
    assert clip_grad_norm_(grad, 1.0) == 5.0
    np.testing.assert_allclose(grad, [0.6, 0.8])


def test_zero_means_no_clipping():
    grad = np.array([3.0, 4.0])
    assert clip_grad_norm_(grad, 0.0) == 5.0
    assert grad.tolist() == [3.0, 4.0]


def test_the_norm_of_millions_of_small_numbers_is_exact():
    grad = np.full(3 * CHUNK + 5, 0.1, np.float32)
    assert clip_grad_norm_(grad, 0.0) == pytest.approx(0.1 * np.sqrt(grad.size), rel=1e-5)


def test_a_gradient_that_is_not_finite_says_so():
    grad = np.array([1.0, np.inf])
    assert clip_grad_norm_(grad, 1.0) == np.inf
    assert grad[0] == 1.0
