# pyright: basic
"""The permutation test of paired differences, and Holm's correction over the claims of one report. Pure.

If two targets answer alike, the label of who answered is worth nothing, and the sign of every question's difference is
a toss of a coin. The p-value is the share of all 2^n tosses whose sum is at least as far from 0 as the one seen.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np

_MAX_STEPS = 200_000
"""Length of the exact distribution up to which it is computed: 198 questions with 32 repeats need 13,000."""
_NUM_DRAWS = 20_000
_SEED = 20_250_211


def sign_flip_p(differences: Sequence[Fraction]) -> float:
    """Two-sided p of the sum of the differences under all flips of their signs; 1 when all are 0.

    Exact where the differences share a small denominator (all questions asked equally often). Otherwise over 20,000
    drawn flips with a fixed seed, the seen one counted among them, so that it is never 0 and always the same.
    """
    moved = [difference for difference in differences if difference != 0]
    if not moved:
        return 1.0
    denominator = lcm(*(difference.denominator for difference in moved))
    steps = [int(difference * denominator) for difference in moved]
    if sum(abs(step) for step in steps) <= _MAX_STEPS:
        return _exact(steps)
    return _drawn(steps)


def _exact(steps: Sequence[int]) -> float:
    """The distribution of the sum, one coin after the other."""
    reach = sum(abs(step) for step in steps)
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for step in map(abs, steps):
        # What leaves an end is 0 there: the sum of all steps fits.
        chances = 0.5 * (np.roll(chances, step) + np.roll(chances, -step))
    seen = abs(sum(steps))
    return float(min(1.0, chances[: reach - seen + 1].sum() + (chances[reach + seen :].sum() if seen else 1.0)))


def _drawn(steps: Sequence[int]) -> float:
    draw = np.random.default_rng(_SEED)
    sizes = np.abs(np.array([float(step) for step in steps]))
    seen = abs(float(sum(steps)))
    sums = np.abs((2.0 * draw.integers(0, 2, size=(_NUM_DRAWS, len(sizes))) - 1.0) @ sizes)
    # Sums of the same steps in another order may differ in the last digit.
    return float((1 + (sums >= seen * (1 - 1e-12)).sum()) / (_NUM_DRAWS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order: together they keep the chance of any false claim below what is read."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
