"""DiLoCo as the paper's algorithm 1 writes it, in double precision, all workers in one process."""

import numpy as np


def plain_diloco(start, inner_steps, rounds, outer_lr, outer_momentum):
    """Return the parameters after so many rounds.

    Parameters
    ----------
    inner_steps : list of callable
        One for each worker: takes (parameters, round) to the parameters after its H steps.
    """
    theta, velocity = start.astype(np.float64), np.zeros(start.size)
    for number in range(rounds):
        gradient = np.mean([theta - inner(theta.copy(), number) for inner in inner_steps], axis=0)
        velocity = outer_momentum * velocity + gradient
        theta = theta - outer_lr * (gradient + outer_momentum * velocity)
    return theta
