"""How many steps at the beginning of a run are not yet like the others: found in their times, not assumed.

The first steps fill caches, fault pages in and let a processor find its frequency. White (1997), An effective
truncation heuristic for bias reduction in simulation output, Simulation 69(6), leaves out the first d of n values that
make the marginal standard error of the others' mean smallest (MSER):

    d = argmin  sum_(i > d) (x_i - mean_d)^2 / (n - d)^2,    d <= n / 2

Leaving out slow first values lowers the sum; leaving out values like the others lowers the number that it is divided
by. A run whose first half is all warm-up has not settled, which shows in its d being half of it.
"""

from collections.abc import Sequence

import numpy as np


def warm_up(seconds: Sequence[float], group: int = 1) -> int:
    """Return the number of first steps to leave out, at most half of them.

    Parameters
    ----------
    seconds : sequence of float
        Of each step.
    group : int
        Steps that belong together: they are left out together or not at all.
    """
    whole = len(seconds) // group
    x = np.reshape(seconds[: whole * group], (whole, group)).mean(axis=1)
    errors = [float(np.var(x[d:])) / (whole - d) for d in range(whole // 2 + 1)] if whole > 1 else [0.0]
    return group * int(np.argmin(errors))
