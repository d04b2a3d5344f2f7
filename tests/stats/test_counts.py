"""The scores that this project grew from: below the published ones, machines not told apart."""

import pytest

from raybench.stats.counts import Count, compare_counts
from raybench.stats.permutation import holm

AIME_H200, AIME_B200 = Count(2, 30), Count(3, 30)
GPQA_H200, GPQA_B200 = Count(111, 198), Count(126, 198)


@pytest.mark.parametrize(
    ("count", "wilson", "clopper_pearson", "published", "p"),
    [
        (AIME_H200, (0.018, 0.213), (0.008, 0.221), 0.703, 4e-13),
        (AIME_B200, (0.035, 0.256), (0.021, 0.265), 0.703, 9e-12),
        (GPQA_H200, (0.491, 0.628), (0.488, 0.631), 0.775, 2e-11),
        (GPQA_B200, (0.567, 0.700), (0.565, 0.703), 0.775, 7e-6),
    ],
)
def test_below_the_published_score_is_certain(
    count: Count, wilson: tuple[float, float], clopper_pearson: tuple[float, float], published: float, p: float
) -> None:
    assert count.wilson() == pytest.approx(wilson, abs=6e-4)
    assert count.clopper_pearson() == pytest.approx(clopper_pearson, abs=6e-4)
    assert float(f"{count.p_below(published):.0e}") == p
    assert count.wilson()[1] < published
    assert count.clopper_pearson()[1] < published


@pytest.mark.parametrize(
    ("h200", "b200", "fisher_p", "low", "high"),
    [(AIME_H200, AIME_B200, 1.00, -12.7, 19.7), (GPQA_H200, GPQA_B200, 0.151, -2.1, 17.0)],
)
def test_h200_and_b200_are_not_distinguishable(
    h200: Count, b200: Count, fisher_p: float, low: float, high: float
) -> None:
    found = compare_counts(h200, b200)
    assert found.fisher_p == pytest.approx(fisher_p, abs=5e-4)
    assert (100 * found.low, 100 * found.high) == pytest.approx((low, high), abs=0.06)
    assert found.low < 0 < found.high
    assert not found.distinguishable


def test_nor_are_both_after_holm() -> None:
    found = [compare_counts(AIME_H200, AIME_B200).fisher_p, compare_counts(GPQA_H200, GPQA_B200).fisher_p]
    assert min(holm(found)) == pytest.approx(0.302, abs=1e-3)


def test_counts_that_differ_by_far_are_distinguishable() -> None:
    assert compare_counts(GPQA_H200, Count(190, 198)).distinguishable


@pytest.mark.parametrize(("num_correct", "num_questions"), [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_count_is_refused(num_correct: int, num_questions: int) -> None:
    with pytest.raises(ValueError, match="no count"):
        Count(num_correct, num_questions)
