"""The sign-flip test and Holm's correction, against scipy and statsmodels."""

import random
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from raybench.stats import permutation
from raybench.stats.permutation import holm, sign_flip_p


def _differences(seed: int, num: int, num_repeats: int = 16) -> list[Fraction]:
    draw = random.Random(seed)
    return [Fraction(draw.randint(-8, 10), num_repeats) for _ in range(num)]


@pytest.mark.parametrize("seed", range(4))
def test_as_scipy_over_all_flips(seed: int) -> None:
    differences = _differences(seed, 11)
    steps = np.array([int(16 * each) for each in differences])
    # scipy's two-sided p doubles the smaller tail; the null is symmetric, so that is the same.
    other = stats.permutation_test((steps,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences) == pytest.approx(min(1.0, other.pvalue))


@pytest.mark.parametrize(("up", "down"), [(10, 3), (1, 1), (5, 0), (20, 35), (0, 0)])
def test_asked_once_it_is_mcnemars(up: int, down: int) -> None:
    differences = [Fraction(1)] * up + [Fraction(-1)] * down + [Fraction(0)] * 7
    expected = stats.binomtest(down, up + down).pvalue if up + down else 1.0
    assert sign_flip_p(differences) == pytest.approx(expected)


def test_drawn_flips_agree_with_all_flips_and_are_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = _differences(1, 60)
    exact = sign_flip_p(differences)
    monkeypatch.setattr(permutation, "_MAX_STEPS", 0)
    drawn = sign_flip_p(differences)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5)
    assert sign_flip_p(differences) == drawn


def test_unequal_numbers_of_answers_fall_back_to_drawn_flips() -> None:
    denominators = [32, 31, 29, 30, 27, 25, 23, 19]
    differences = [Fraction(1, denominators[n % 8]) for n in range(40)]
    assert sign_flip_p(differences) == pytest.approx(1 / 20_001)


def test_the_false_alarms_of_equal_targets() -> None:
    draw = np.random.default_rng(5)
    shares = draw.beta(0.6, 0.3, size=30)
    p_values: list[float] = []
    for _ in range(600):
        a, b = draw.binomial(8, shares), draw.binomial(8, shares)
        p_values.append(sign_flip_p([Fraction(int(x - y), 8) for x, y in zip(a, b, strict=True)]))
    assert 0.02 <= float(np.mean(np.array(p_values) < 0.05)) <= 0.075


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03], [0.5], [0.2, 0.2, 1.0, 0.0], []])
def test_holm_as_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1].tolist() if p_values else []
    assert holm(p_values) == pytest.approx(expected)
