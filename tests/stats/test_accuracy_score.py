"""The score of an eval, its intervals and its gate."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from raybench.records import Outcome
from raybench.stats.accuracy import AccuracyScore, score
from raybench.stats.gate import Holding

Items = dict[tuple[str, int], Outcome]


def _once(num_correct: int, num_questions: int) -> Items:
    return {(f"q{i:03}", 0): "correct" if i < num_correct else "incorrect" for i in range(num_questions)}


def _repeated(corrects: list[int], num_repeats: int) -> Items:
    return {
        (f"q{i:03}", repeat): "correct" if repeat < correct else "incorrect"
        for i, correct in enumerate(corrects)
        for repeat in range(num_repeats)
    }


def _score(items: Items, baseline: float | None = None, margin: float = 0.05) -> AccuracyScore:
    return score(items, set(items), Holding(published=baseline, gate="published", margin=margin))


def test_each_outcome_counts_where_it_belongs() -> None:
    items: Items = {
        ("a", 0): "correct", ("a", 1): "incorrect", ("b", 0): "truncated", ("b", 1): "correct",
        ("c", 0): "unparsed", ("c", 1): "errored", ("d", 0): "errored", ("d", 1): "errored",
    }  # fmt: skip
    planned = {*items, ("e", 0), ("e", 1)}
    found = score(items, planned)
    assert (found.num_questions, found.num_repeats, found.num_planned) == (5, 2, 10)
    assert (found.num_samples, found.num_scored) == (8, 5)
    assert found.counts == {"correct": 2, "incorrect": 1, "unparsed": 1, "truncated": 1, "errored": 3}
    # a 1/2, b 1/2, c 0/1; d was not answered
    assert found.score == pytest.approx(1 / 3)
    # of 5 questions: a 1/2, b 1/2 | c and d by their errored samples, e by its missing ones
    assert found.worst == pytest.approx(0.2)
    assert found.best == pytest.approx((0.5 + 0.5 + 0.5 + 1 + 1) / 5)
    assert found.truncated_fraction == pytest.approx(1 / 5)
    assert found.unparsed_fraction == pytest.approx(1 / 5)
    assert found.errored_fraction == pytest.approx(3 / 8)


def test_nothing_answered_has_no_score() -> None:
    found = score({("a", 0): "errored"}, {("a", 0), ("b", 0)}, Holding(published=0.5, gate="published"))
    assert (found.score, found.exam, found.population, found.gate) == (None, None, None, None)
    assert (found.worst, found.best) == (0, 1)
    assert found.truncated_fraction is None
    assert found.errored_fraction == 1
    empty = score({}, {("a", 0)}, Holding(published=0.5, gate="published"))
    assert (empty.score, empty.errored_fraction, empty.worst, empty.best) == (None, None, 0, 1)


@pytest.mark.parametrize("planned", [set(), {("b", 0)}])
def test_outcomes_outside_the_plan_are_refused(planned: set[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match="must belong to a plan"):
        score({("a", 0): "correct"}, planned)


@pytest.mark.parametrize(
    ("num_correct", "num_questions", "low", "high"),
    [(2, 30, 0.018, 0.213), (126, 198, 0.567, 0.700), (30, 30, 0.886, 1)],
)
def test_one_repeat_has_wilsons_interval(num_correct: int, num_questions: int, low: float, high: float) -> None:
    found = _score(_once(num_correct, num_questions))
    assert found.score == pytest.approx(num_correct / num_questions)
    assert found.exam == found.population
    assert found.exam is not None
    assert found.exam.method == "wilson"
    assert (found.exam.low, found.exam.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_this_exam_counts_the_variance_within_questions_alone() -> None:
    corrects = np.array([0, 4, 8, 12, 16, 16, 10, 3])
    found = _score(_repeated(corrects.tolist(), 16))
    marks = np.array([[1] * c + [0] * (16 - c) for c in corrects])
    error = sqrt((marks.var(axis=1, ddof=1) / 16).sum()) / len(corrects)
    mean = marks.mean()
    assert found.exam is not None
    assert found.exam.method == "wilson_within"
    effective = mean * (1 - mean) / error**2
    low, high = proportion_confint(mean * effective, effective, method="wilson")
    assert (found.exam.low, found.exam.high) == pytest.approx((low, high))
    # Far from the ends it is the normal interval, drawn a little towards a half.
    assert (found.exam.low, found.exam.high) == pytest.approx(stats.norm.interval(0.95, mean, error), abs=0.003)
    shares = (corrects + 1) / 18
    assert found.standard_error == pytest.approx(sqrt((shares * (1 - shares) / 16).sum()) / len(corrects))


def test_the_population_counts_the_questions_too() -> None:
    corrects = [0, 4, 8, 12, 16, 16, 10, 3]
    found = _score(_repeated(corrects, 16))
    means = np.array(corrects) / 16
    assert found.population is not None and found.exam is not None
    assert found.population.method == "clustered_t"
    expected = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    assert (found.population.low, found.population.high) == pytest.approx(expected)
    assert found.population.low < found.exam.low < found.exam.high < found.population.high


@pytest.mark.parametrize("corrects", [[2] * 12 + [1] * 14 + [0] * 4, [2] * 22 + [1] * 6 + [0] * 2, [2] * 29 + [1]])
def test_other_questions_are_never_surer_than_these(corrects: list[int]) -> None:
    found = _score(_repeated(corrects, 2))
    assert found.population is not None and found.exam is not None
    assert found.population.low <= found.exam.low
    assert found.population.high >= found.exam.high


def test_error_bars_have_the_size_that_thirty_questions_give() -> None:
    # 30 questions, 16 repeats, variance within a question about .09: SE 1.4 points for this exam, about 6 for others.
    corrects = [16] * 10 + [15, 14, 13, 12, 11, 10, 9, 8, 8, 7, 6, 5] + [12] * 5 + [2, 1, 0]
    found = _score(_repeated(corrects, 16))
    assert found.exam is not None and found.population is not None
    assert (found.exam.high - found.exam.low) / 3.92 == pytest.approx(0.017, abs=0.003)
    assert (found.population.high - found.population.low) / 4.09 == pytest.approx(0.058, abs=0.012)


@pytest.mark.parametrize("corrects", [[4] * 29 + [3], [4] * 30, [0] * 30, [2] * 30, [4]])
def test_intervals_near_an_end_or_without_spread_keep_a_width(corrects: list[int]) -> None:
    found = _score(_repeated(corrects, 4))
    assert found.population is not None and found.score is not None
    assert found.population.method == "wilson_effective"
    assert found.population.low <= found.score + 1e-9
    assert found.score <= found.population.high + 1e-9
    assert found.population.high - found.population.low > 0.02


def test_no_reference_no_gate() -> None:
    assert _score(_once(20, 30)).gate is None


def test_one_repeat_of_thirty_questions_decides_little() -> None:
    gate = _score(_once(21, 30), baseline=0.703).gate
    assert gate is not None
    assert gate.verdict == "INCONCLUSIVE"
    assert gate.difference == pytest.approx(-0.003)
    assert gate.repeats_needed is not None and 15 <= gate.repeats_needed <= 20
    low, high = stats.binomtest(21, 30).proportion_ci(0.90, method="wilson")
    assert (gate.lower, gate.upper) == pytest.approx((low - 0.703, high - 0.703))


@pytest.mark.parametrize(("num_correct", "n", "reference"), [(2, 30, 0.703), (3, 30, 0.703), (111, 198, 0.775)])
def test_the_scores_that_this_project_grew_from_fail(num_correct: int, n: int, reference: float) -> None:
    gate = _score(_once(num_correct, n), reference, 0.05 if n == 30 else 0.03).gate
    assert gate is not None
    assert gate.verdict == "FAIL"
    assert gate.upper < 0
    assert gate.difference < -gate.margin / 2
    assert gate.repeats_needed is None


def test_a_score_below_the_reference_can_pass() -> None:
    gate = _score(_repeated([11] * 25 + [12] * 5, 16), baseline=0.703).gate
    assert gate is not None
    assert gate.difference < 0
    assert -0.05 < gate.lower < gate.difference < gate.upper
    assert gate.verdict == "PASS"


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)),
        st.sampled_from(["correct", "incorrect", "unparsed", "truncated", "errored"]),
        min_size=1,
    )
)
def test_any_outcomes_keep_score_between_bounds_and_inside_intervals(items: Items) -> None:
    found = score(items, {*items, ("z", 0)}, Holding(published=0.5, gate="published"))
    assert 0 <= found.worst <= found.best <= 1
    if found.score is None:
        return
    for interval in (found.exam, found.population):
        assert interval is not None
        assert interval.low - 1e-9 <= found.score <= interval.high + 1e-9
    assert found.gate is not None
    assert found.gate.lower - 1e-9 <= found.gate.difference <= found.gate.upper + 1e-9


def test_the_order_of_the_outcomes_does_not_matter() -> None:
    items = _repeated([0, 1, 2, 3, 2, 1], 3)
    turned = dict(reversed(items.items()))
    assert _score(items, 0.5).model_dump_json() == _score(turned, 0.5).model_dump_json()
