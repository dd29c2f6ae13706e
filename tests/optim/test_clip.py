import numpy as np
import pytest

from dist_llm.optim.clip import CHUNK, clip_, global_norm


@pytest.mark.parametrize(("max_norm", "expected"), [(10.0, [3.0, 4.0]), (1.0, [0.6, 0.8]), (0.0, [3.0, 4.0])])
def test_a_long_gradient_is_scaled_a_short_one_is_not_and_zero_means_no_clipping(max_norm, expected):
    grad = np.array([3.0, 4.0])
    clip_(grad, global_norm(grad), max_norm)
    np.testing.assert_allclose(grad, expected)


def test_the_norm_of_millions_of_small_numbers_is_exact():
    grad = np.full(3 * CHUNK + 5, 0.1, np.float32)
    assert global_norm(grad) == pytest.approx(0.1 * np.sqrt(grad.size), rel=1e-5)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_gradient_that_is_not_finite_has_no_finite_norm(bad):
    assert not np.isfinite(global_norm(np.array([1.0, bad])))
