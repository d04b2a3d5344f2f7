"""Two targets side by side."""

import numpy as np
import pytest
from scipy import stats

from raybench.records import Outcome
from raybench.stats.compare import Ratio, compare_accuracy, ratio

Items = dict[tuple[str, int], Outcome]


def _items(rows: list[str]) -> Items:
    """One text a question, one letter a repeat: c, i, t, u, e by outcome, a dot for missing."""
    words: dict[str, Outcome] = {"c": "correct", "i": "incorrect", "t": "truncated", "u": "unparsed", "e": "errored"}
    return {
        (f"q{number}", repeat): words[letter]
        for number, text in enumerate(rows)
        for repeat, letter in enumerate(text)
        if letter != "."
    }


def test_paired_by_question_as_scipy_does() -> None:
    a = ["cccc", "ccci", "ciii", "iiii", "ccti", "cuii"]
    b = ["ccci", "cccc", "iiii", "iiii", "cccc", "ciii"]
    found = compare_accuracy(_items(a), _items(b))
    assert found is not None
    shares_a, shares_b = (np.array([text.count("c") / 4 for text in rows]) for rows in (a, b))
    other = stats.ttest_rel(shares_a, shares_b)
    interval = other.confidence_interval(0.95)
    assert found.difference == pytest.approx(float((shares_a - shares_b).mean()))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(other.pvalue)
    assert (found.num_questions, found.num_pairs) == (6, 24)
    assert found.num_discordant == 5
    assert found.mcnemar_p is None
    assert found.moved == ("q4", "q0", "q1", "q2")


def test_one_repeat_has_mcnemar() -> None:
    a = _items(["c"] * 10 + ["i"] * 3 + ["c"] * 5)
    b = _items(["i"] * 10 + ["c"] * 3 + ["c"] * 5)
    found = compare_accuracy(a, b)
    assert found is not None
    assert found.num_discordant == 13
    assert found.mcnemar_p == pytest.approx(stats.binomtest(3, 13).pvalue)
    assert found.difference == pytest.approx(7 / 18)


def test_only_what_both_answered_is_compared() -> None:
    found = compare_accuracy(_items(["ce", "cc", "..", "ee"]), _items(["ic", ".c", "cc", "cc"]))
    assert found is not None
    assert (found.num_questions, found.num_pairs) == (2, 2)
    assert found.difference == pytest.approx(0.5)
    # q0 was asked twice, but only one pair of it remains
    assert found.mcnemar_p == 1.0


@pytest.mark.parametrize(("a", "b"), [([], ["c"]), (["e"], ["c"]), (["c"], ["e"]), (["c."], [".c"])])
def test_nothing_in_common_is_none(a: list[str], b: list[str]) -> None:
    assert compare_accuracy(_items(a), _items(b)) is None


@pytest.mark.parametrize(
    ("a", "b", "difference"), [(["c", "c"], ["c", "c"], 0), (["c", "c"], ["i", "i"], 1), (["c"], ["i"], 1)]
)
def test_without_spread_there_is_no_interval(a: list[str], b: list[str], difference: float) -> None:
    found = compare_accuracy(_items(a), _items(b))
    assert found is not None
    assert (found.difference, found.low, found.high, found.p_value) == (difference, None, None, None)


def test_turned_round_the_sign_turns() -> None:
    a, b = _items(["cc", "ci", "ii"]), _items(["ci", "cc", "ci"])
    one, two = compare_accuracy(a, b), compare_accuracy(b, a)
    assert one is not None and two is not None
    assert one.difference == pytest.approx(-two.difference)
    assert one.low is not None and two.high is not None
    assert one.low == pytest.approx(-two.high)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([10, 12, 11], [5, 5.5, 4], Ratio(ratio=2.2, low=10 / 5.5, high=3.0, num_a=3, num_b=3)),
        ([10], [5], Ratio(ratio=2.0, low=2.0, high=2.0, num_a=1, num_b=1)),
        ([10, None], [None, 5, 4], Ratio(ratio=10 / 4.5, low=2.0, high=2.5, num_a=1, num_b=2)),
        ([], [5], None),
        ([10], [], None),
        ([None], [5], None),
        ([10], [5, 0], None),
    ],
)
def test_ratio(a: list[float | None], b: list[float | None], expected: Ratio | None) -> None:
    found = ratio(a, b)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.model_dump() == pytest.approx(expected.model_dump())
