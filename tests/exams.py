"""Exams of made-up questions whose true shares are known, for simulations of intervals and verdicts."""

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]
Counts = dict[str, tuple[int, int]]

AIME_WITHIN = 0.09 / 0.21
"""Variance within questions over the variance of a single answer: AIME25 in public runs."""
GPQA_WITHIN = 0.10 / 0.174
"""The same of GPQA Diamond."""


def true_shares(draw: np.random.Generator, mean: float, num_questions: int, within: float) -> Shares:
    """Chances of a right answer of questions from a Beta population."""
    size = within / (1 - within)
    return draw.beta(mean * size, (1 - mean) * size, size=num_questions)


def quantile_shares(mean: float, num_questions: int, within: float) -> Shares:
    """The same population, as evenly as that many questions can be: an exam whose mean is the given one."""
    draw = np.random.default_rng(0)
    drawn = np.sort(true_shares(draw, mean, 400 * num_questions, within)).reshape(num_questions, 400).mean(axis=1)
    return np.clip(drawn + mean - drawn.mean(), 0, 1)


def answers(draw: np.random.Generator, shares: Shares, num_repeats: int) -> Counts:
    """(correct, answered) by question."""
    corrects = draw.binomial(num_repeats, shares)
    return {f"q{number:03}": (int(correct), num_repeats) for number, correct in enumerate(corrects)}
