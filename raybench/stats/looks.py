"""Several looks at growing data under one error rate: the constant level of Pocock, for any spacing of the looks. Pure.

Whoever tests after 4, 8 and 16 repeats at 5% each is wrong far more often than 5% of the time. A level that is the same
at every look, and small enough that all looks together err at the nominal rate, is a plan that may stop early.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import sqrt

import numpy as np

from raybench.stats.distributions import Curve, normal_cdf, normal_quantile, normal_tail

_GRID = 401
_REACH = 8.0
"""Standard deviations to which the density is followed below the boundary."""


def pocock_level(information: Sequence[float], alpha: float = 0.05) -> float:
    """One-sided level of every look at which all looks together err at most at `alpha`.

    `information` = what is known at each look, growing (repeats of every question). Between the Bonferroni split and
    alpha itself. Raises ValueError for looks that do not grow.
    """
    if not information or information[0] <= 0 or any(b <= a for a, b in pairwise(information)):
        raise ValueError("the looks of a plan need information that grows")
    return _level(tuple(information), alpha)


@lru_cache(maxsize=64)
def _level(information: tuple[float, ...], alpha: float) -> float:
    low, high = alpha / len(information), alpha
    for _ in range(25):
        middle = (low + high) / 2
        if crossing_probability(information, normal_quantile(1 - middle)) > alpha:
            high = middle
        else:
            low = middle
    return low


def crossing_probability(information: Sequence[float], boundary: float) -> float:
    """Probability that a standardised sum of independent increments exceeds `boundary` at any of the looks.

    Armitage, McPherson and Rowe's recursion: the density of the sum on the paths that have not crossed, look by look.
    """
    steps = np.diff(np.asarray([0.0, *information]))
    first = sqrt(information[0])
    grid = np.linspace(-_REACH * first, boundary * first, _GRID)
    density = np.exp(-0.5 * (grid / first) ** 2) / (first * sqrt(2 * np.pi))
    crossed = normal_tail(boundary)
    for known, step in zip(information[1:], steps[1:], strict=True):
        edge, deviation = boundary * sqrt(known), sqrt(float(step))
        weights = density * _trapezoid(grid)
        crossed += float(np.sum(weights * normal_cdf((grid - edge) / deviation)))
        following = np.linspace(-_REACH * sqrt(known), edge, _GRID)
        kernel = np.exp(-0.5 * ((following[:, None] - grid[None, :]) / deviation) ** 2) / (deviation * sqrt(2 * np.pi))
        density, grid = kernel @ weights, following
    return crossed


def _trapezoid(grid: Curve) -> Curve:
    widths = np.full(len(grid), grid[1] - grid[0])
    widths[[0, -1]] /= 2
    return widths
