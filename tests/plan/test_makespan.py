"""How long a fleet takes, on a virtual clock: exact, the same on every machine. See tests/benchmarks/makespan.py."""

from statistics import mean

import pytest
from fleet_model import AIME, Figures, Setting, blocks, expected, figures

from raybench.plan.order import longest_first


@pytest.fixture(scope="module", params=[4, 8])
def fleet(request: pytest.FixtureRequest) -> list[Figures]:
    return [one for seed in range(2) for one in figures(Setting(request.param, seed))]


def test_the_makespan_is_close_to_the_lower_bound(fleet: list[Figures]) -> None:
    assert all(1 <= one.over_bound <= 1.15 for one in fleet)


def test_the_makespan_is_a_fifth_under_equal_shares(fleet: list[Figures]) -> None:
    assert mean(one.gain for one in fleet) >= 0.2


def test_a_node_that_is_lost_midway_costs_its_work_and_no_more(fleet: list[Figures]) -> None:
    for one in fleet:
        assert one.makespan_s < one.lost_s <= one.allowed_s


def test_the_longest_go_first_but_every_question_is_asked_once_before_in_its_order() -> None:
    units = blocks("a", AIME, 4, 32)
    guess = expected(units, AIME.lengths(0), 0.3, 0)
    ordered = [unit for unit in longest_first(units, guess) if unit.kind == "eval"]
    first = [unit for unit in ordered if all(sample.repeat == 0 for sample in unit.samples)]
    assert ordered[: len(first)] == first == units[: len(first)], "in the order of the exam"
    rest = [guess[unit.key] for unit in ordered[len(first) :]]
    assert rest == sorted(rest, reverse=True) and len(set(rest)) > 10


def test_what_nothing_is_known_of_stays_in_its_order() -> None:
    units = [*blocks("b", AIME, 4, 32), *blocks("a", AIME, 4, 32)]
    assert longest_first(units, {}) == tuple(units)
