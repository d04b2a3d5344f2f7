"""The rule that ends a load which only grows."""

import pytest

from raybench.client.overload import Count, OverloadRule, overload

RULE = OverloadRule(slice_s=2.0, num_slices=5)


def counts(due_per_s: float, ended_per_s: float, seconds: float, start: int = 0) -> list[Count]:
    times = [place / 4 for place in range(int(seconds * 4) + 1)]
    return [Count(t_s, start + int(due_per_s * t_s), int(ended_per_s * t_s)) for t_s in times]


def test_a_load_that_only_grows_ends_with_its_numbers() -> None:
    why = overload(counts(100, 50, 12), RULE)
    assert why == "overload: in 10 s 1000 requests came due and 500 ended; the backlog grew from 100 to 600"


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ([], "nothing seen"),
        (counts(100, 50, 9), "too short"),
        (counts(100, 100, 60), "steady"),
        (counts(100, 95, 12), "almost keeps up"),
        (counts(2, 1, 12), "a small backlog"),
        (counts(100, 50, 12, start=2000), "from a high level: not yet twice as much"),
        (counts(100, 50, 8) + [Count(8 + place, 900, 800) for place in range(1, 5)], "it recovered"),
    ],
)
def test_other_loads_go_on(seen: list[Count], why: str) -> None:
    assert overload(seen, RULE) is None, why
