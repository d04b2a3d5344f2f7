"""The typed doors against scipy and published figures."""

import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from raybench.stats.distributions import (
    chi_square_p,
    mcnemar_exact_p,
    normal_quantile,
    t_quantile,
    t_two_sided_p,
    wilson,
)


@pytest.mark.parametrize(
    ("num_correct", "num_questions", "low", "high"),
    [(2, 30, 0.018, 0.213), (3, 30, 0.035, 0.256), (111, 198, 0.491, 0.628), (126, 198, 0.567, 0.700)],
)
def test_wilson_of_the_scores_that_this_project_grew_from(
    num_correct: int, num_questions: int, low: float, high: float
) -> None:
    assert wilson(num_correct, num_questions) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


@pytest.mark.parametrize(("k", "n", "confidence"), [(0, 30, 0.95), (30, 30, 0.95), (21, 30, 0.90), (111, 198, 0.95)])
def test_wilson_is_scipys(k: int, n: int, confidence: float) -> None:
    other = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((other.low, other.high), abs=1e-12)


def test_quantiles_and_tails_are_scipys() -> None:
    assert normal_quantile(0.975) == pytest.approx(stats.norm.ppf(0.975))
    assert t_quantile(0.975, 29) == pytest.approx(stats.t.ppf(0.975, 29))
    assert t_two_sided_p(-2.1, 29) == pytest.approx(2 * stats.t.sf(2.1, 29))
    assert t_two_sided_p(0.0, 29) == 1.0
    assert chi_square_p(7.8, 3) == pytest.approx(stats.chi2.sf(7.8, 3))


@pytest.mark.parametrize(("a", "b"), [(0, 15), (10, 25), (18, 33), (20, 35), (5, 5), (1, 0)])
def test_mcnemar_is_statsmodels(a: int, b: int) -> None:
    assert mcnemar_exact_p(a, b) == pytest.approx(float(mcnemar([[3, a], [b, 4]], exact=True).pvalue))


@pytest.mark.parametrize(("discordant", "p"), [(15, 0.0001), (35, 0.017), (51, 0.049), (55, 0.058), (111, 0.18)])
def test_mcnemar_of_fifteen_more_right_answers(discordant: int, p: float) -> None:
    found = mcnemar_exact_p((discordant - 15) // 2, (discordant + 15) // 2)
    assert found == pytest.approx(p, rel=0.05, abs=5e-5)


def test_mcnemar_without_discordant_items() -> None:
    assert mcnemar_exact_p(0, 0) == 1.0
