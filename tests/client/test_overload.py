"""The rule that ends a load which only grows."""

from collections.abc import Callable

import pytest

from raybench.client.job import LoadJob
from raybench.client.overload import Count, OverloadRule, overload
from raybench.client.serve import overload_rule
from raybench.records.loads import OpenLoad, RampLoad, ServingLoad, TraceLoad

RULE = OverloadRule()


def counts(due: Callable[[float], float], ended: Callable[[float], float], seconds: float) -> list[Count]:
    """Requests that end in the order in which they came."""
    times = [place / 4 for place in range(int(seconds * 4) + 1)]
    return [Count(t_s, int(due(t_s)), int(ended(t_s)), min(int(ended(t_s)), RULE.num_first)) for t_s in times]


def healthy(due: Callable[[float], float], e2e_s: float, seconds: float) -> list[Count]:
    """Every request takes as long."""
    return counts(due, lambda t_s: due(max(t_s - e2e_s, 0)), seconds)


def overloaded(rate: float, factor: float, seconds: float, e2e_s: float = 1.0) -> list[Count]:
    """So many times the capacity arrives."""
    return counts(lambda t_s: rate * t_s, lambda t_s: rate / factor * max(t_s - e2e_s, 0), seconds)


def first_word(seen: list[Count]) -> tuple[float, str] | None:
    """When the rule speaks for the first time, and what it says."""
    for num in range(len(seen) + 1):
        if (why := overload(seen[:num], RULE)) is not None:
            return seen[num - 1].t_s, why
    return None


def test_a_load_that_only_grows_ends_with_its_numbers() -> None:
    assert first_word(overloaded(100, 2, 20)) == (
        12.5, "overload: in 10 s 1000 requests came due and 500 ended; the backlog grew from 175 to 675"
    )  # fmt: skip


@pytest.mark.parametrize("e2e_s", [0.1, 1, 5, 9, 13, 30, 60])
@pytest.mark.parametrize("rate", [1, 2, 8, 30, 100, 1000])
def test_a_server_that_keeps_up_is_never_stopped(rate: float, e2e_s: float) -> None:
    assert first_word(healthy(lambda t_s: rate * t_s, e2e_s, e2e_s + 90)) is None


@pytest.mark.parametrize("e2e_s", [0.1, 1, 5, 10])
@pytest.mark.parametrize("factor", [1.2, 2, 4, 20])
@pytest.mark.parametrize("rate", [20, 100, 1000])
def test_an_overload_is_stopped_soon_after_its_first_requests_have_ended(
    rate: float, factor: float, e2e_s: float
) -> None:
    found = first_word(overloaded(rate, factor, 250, e2e_s))
    assert found is not None
    # Three times the lag at the end of the start; the slower it grows, the longer that takes.
    start_s = e2e_s + RULE.num_first * factor / rate
    assert start_s + 10 <= found[0] <= 3 * start_s / (1 - 1 / factor) + 11


@pytest.mark.parametrize("e2e_s", [1, 5, 20])
def test_arrivals_that_become_more_and_more_are_no_overload(e2e_s: float) -> None:
    # A trace may hold a ramp: its backlog grows by design, its lag does not.
    assert first_word(healthy(lambda t_s: t_s**2, e2e_s, 90)) is None


def test_a_server_that_slows_down_as_its_batch_fills_is_left_to_it() -> None:
    # From 2.5 s for the first requests to 7.5 s within 20 s.
    def ended(t_s: float) -> float:
        return 100 * max(t_s - min(2.5 + t_s / 4, 7.5), 0)

    assert first_word(counts(lambda t_s: 100 * t_s, ended, 90)) is None


def test_the_start_ends_with_the_longest_of_the_first_replies() -> None:
    # One reply in five takes 60 s, the others 1 s.
    def of_each(t_s: float, of: float) -> int:
        return int(of * 0.8 * max(t_s - 1, 0) + of * 0.2 * max(t_s - 60, 0))

    times = [place / 4 for place in range(100 * 4)]
    seen = [Count(t, int(100 * t), of_each(t, 100), 64 if t >= 61 else min(of_each(t, 100), 51)) for t in times]
    assert first_word(seen) is None


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ([], "nothing seen"),
        (overloaded(100, 2, 11), "too short"),
        (overloaded(100, 1.1, 90), "almost keeps up"),
        (overloaded(4, 2, 30), "a small backlog"),
        (overloaded(100, 2, 12) + [Count(12 + place, 1250, 1150, 64) for place in range(1, 5)], "it recovered"),
    ],
)
def test_other_loads_go_on(seen: list[Count], why: str) -> None:
    assert first_word(seen) is None, why


@pytest.mark.parametrize(
    ("load", "armed"),
    [
        (OpenLoad(rate_per_s=8, duration_s=60, input_tokens=8, output_tokens=8), True),
        (TraceLoad(name="t", at_s=(0, 1), input_tokens=(8, 8), output_tokens=(8, 8)), True),
        (RampLoad(start_rate_per_s=1, end_rate_per_s=9, duration_s=60, input_tokens=8, output_tokens=8), False),
    ],
)
def test_a_ramp_is_never_stopped(load: ServingLoad, armed: bool) -> None:
    job = LoadJob(
        url="http://127.0.0.1:1", model="m", load=load, arrival_seed=1, prompt_seed=1, vocab_tokens=100, timeout_s=60
    )
    assert (overload_rule(job) is not None) == armed
