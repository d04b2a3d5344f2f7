"""Rates over started samples: what is in flight counts on both sides."""

import pytest

from raybench.records import Sign
from raybench.stats.distributions import wilson
from raybench.stats.rates import SIGNS, rate, rates


def test_bounds_are_wilsons_when_nothing_is_in_flight() -> None:
    seen = rate(8, 30, 30)
    assert (seen.low, seen.high) == pytest.approx(wilson(8, 30, 0.90))
    assert seen.fraction == pytest.approx(8 / 30)


def test_what_is_in_flight_may_turn_out_either_way() -> None:
    seen = rate(4, 20, 50)
    assert seen.low == pytest.approx(wilson(4, 50, 0.90)[0])
    assert seen.high == pytest.approx(wilson(34, 50, 0.90)[1])
    assert seen.fraction == pytest.approx(0.2)


def test_short_replies_that_end_first_do_not_decide() -> None:
    """Half of 40 replies are cut; the whole ones ended first, so that the ended ones alone show no cut at all."""
    early = rate(0, 20, 40)
    assert early.fraction == 0
    assert early.low == 0 and early.high > 0.5


@pytest.mark.parametrize(("num", "high"), [(30, 0.095), (198, 0.015), (480, 0.0062)])
def test_no_cut_reply_proves_little(num: int, high: float) -> None:
    """The exact bounds of `0 of n` are these; Wilson's lie near them."""
    assert rate(0, num, num).high == pytest.approx(high, rel=0.15)


def test_nothing_started_says_nothing() -> None:
    seen = rate(0, 0, 0)
    assert (seen.low, seen.high, seen.fraction) == (0.0, 1.0, None)


@pytest.mark.parametrize("numbers", [(2, 1, 3), (1, 3, 2), (-1, 0, 0)])
def test_impossible_numbers_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        rate(*numbers)


def test_rates_count_every_sign() -> None:
    signs: list[frozenset[Sign]] = [frozenset(["truncated", "looping"]), frozenset(["errored"]), frozenset()]
    seen = rates(signs, num_in_flight=2)
    assert set(seen) == set(SIGNS)
    assert {sign: one.num for sign, one in seen.items() if one.num} == {"truncated": 1, "looping": 1, "errored": 1}
    assert {(one.num_ended, one.num_started) for one in seen.values()} == {(3, 5)}
