"""How often the intervals hold what they claim to hold, over simulated exams."""

import numpy as np
import pytest
from exams import AIME_WITHIN, GPQA_WITHIN, answers, true_shares

from raybench.stats.accuracy import Interval, exam_interval, population_interval

NUM_EXAMS = 1000
"""At a coverage of 95% the standard error of a simulated one is .7 points."""


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def _coverage(mean: float, num_questions: int, num_repeats: int, within: float) -> tuple[float, float]:
    """Share of exams whose intervals hold (this exam's true score, the population's)."""
    draw = np.random.default_rng(7)
    exam = population = 0
    for _ in range(NUM_EXAMS):
        shares = true_shares(draw, mean, num_questions, within)
        counts = answers(draw, shares, num_repeats)
        exam += _holds(exam_interval(counts), float(shares.mean()))
        population += _holds(population_interval(counts), mean)
    return exam / NUM_EXAMS, population / NUM_EXAMS


EXAMS = [(30, 16, AIME_WITHIN), (30, 32, AIME_WITHIN), (198, 8, GPQA_WITHIN)]


@pytest.mark.parametrize(("num_questions", "num_repeats", "within"), EXAMS)
@pytest.mark.parametrize("mean", [0.3, 0.5, 0.7, 0.9])
def test_both_intervals_cover_what_they_claim(mean: float, num_questions: int, num_repeats: int, within: float) -> None:
    exam, population = _coverage(mean, num_questions, num_repeats, within)
    assert 0.92 <= population <= 0.98
    assert 0.92 <= exam <= 0.98


@pytest.mark.parametrize(("num_questions", "num_repeats", "within"), EXAMS)
@pytest.mark.parametrize("mean", [0.93, 0.95, 0.98])
def test_near_the_ceiling_neither_covers_less_than_92(
    mean: float, num_questions: int, num_repeats: int, within: float
) -> None:
    exam, population = _coverage(mean, num_questions, num_repeats, within)
    assert population >= 0.92
    assert exam >= 0.92


@pytest.mark.parametrize("mean", [0.3, 0.7, 0.95])
@pytest.mark.parametrize(("num_questions", "within"), [(30, AIME_WITHIN), (198, GPQA_WITHIN)])
def test_few_repeats(mean: float, num_questions: int, within: float) -> None:
    exam, population = _coverage(mean, num_questions, 4, within)
    assert min(exam, population) >= 0.92


@pytest.mark.parametrize(("mean", "num_questions"), [(0.3, 30), (0.5, 30), (0.3, 198), (0.7, 198), (0.95, 198)])
def test_asked_once_the_interval_is_that_of_the_population_and_a_bound_for_this_exam(
    mean: float, num_questions: int
) -> None:
    exam, population = _coverage(mean, num_questions, 1, AIME_WITHIN)
    assert 0.92 <= population <= 0.98
    assert exam >= 0.98, "an upper bound of the width covers more"
