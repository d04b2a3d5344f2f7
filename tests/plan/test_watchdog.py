"""What makes no progress is ended once, and its node is lost if it does not even end it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from raybench.plan.watchdog import GRACE_S, PATIENCE_S, Watchdog

from .test_dispatch import block, check, perf

LIMIT_S = 1.0 + GRACE_S
"""Of the points and checks of these tests; a block has a second more."""

STEP = st.tuples(st.floats(0, 200), st.sampled_from(["sample", "end", "start"]), st.integers(0, 3))
"""(time that passes, what happens then, to which node)."""


def test_a_point_is_overdue_after_its_limit_and_its_node_lost_after_patience() -> None:
    dog = Watchdog()
    dog.started("n0", perf("a", 1), 100.0)
    assert dog.overdue(100.0 + LIMIT_S - 1) == []
    [late] = dog.overdue(100.0 + LIMIT_S)
    assert (late.node, late.key, late.lost) == ("n0", "a-s-1-0-0", False)
    assert "301 s" in late.reason
    assert dog.overdue(100.0 + LIMIT_S + PATIENCE_S - 1) == []
    [gone] = dog.overdue(100.0 + LIMIT_S + PATIENCE_S)
    assert gone.lost
    dog.lost("n0")
    assert dog.overdue(1e9) == []


def test_a_point_that_waits_behind_another_has_its_time_from_the_other_ones_end() -> None:
    dog = Watchdog()
    dog.started("n0", perf("a", 1), 0.0)
    dog.started("n0", perf("a", 2), 0.0)
    dog.ended("n0", "a-s-1-0-0", LIMIT_S - 1)
    assert dog.overdue(2 * LIMIT_S - 2) == []
    [late] = dog.overdue(2 * LIMIT_S - 1)
    assert late.key == "a-s-2-0-0"


def test_samples_keep_a_block_alive_and_say_nothing_for_the_one_beside_it() -> None:
    dog = Watchdog()
    dog.started("n0", block("a", 0), 0.0)
    dog.started("n0", block("a", 1), 0.0)
    dog.moved("n0", "a-e0", 200.0)
    [late] = dog.overdue(LIMIT_S + 1)
    assert late.key == "a-e1"


def test_a_check_is_watched_too_and_what_is_not_known_is_no_trouble() -> None:
    dog = Watchdog()
    dog.started("n0", check("a", "canary"), 0.0)
    assert [one.key for one in dog.overdue(LIMIT_S)] == ["a-canary-0"]
    dog.ended("n9", "x", 1.0)
    dog.moved("n9", "x", 1.0)
    dog.lost("n9")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["sample", "end", "start"]), st.integers(0, 3)), max_size=60)
)
def test_nothing_that_keeps_going_is_ever_ended(steps: list[tuple[float, str, int]]) -> None:
    """Whatever happens, only a unit without progress for longer than its limit is told, and it is told once."""
    dog, now_s = Watchdog(), 0.0
    since: dict[int, float] = {}
    told: set[int] = set()
    for passed_s, what, number in steps:
        now_s += passed_s
        if what == "start" and number not in since:
            dog.started(f"n{number}", block("a", number), now_s)
            since[number] = now_s
        elif what == "end" and number in since:
            dog.ended(f"n{number}", f"a-e{number}", now_s)
            del since[number]
            told.discard(number)
        elif what == "sample" and number in since:
            dog.moved(f"n{number}", f"a-e{number}", now_s)
            since[number] = since[number] if number in told else now_s
        for one in dog.overdue(now_s):
            late = int(one.node[1:])
            assert now_s - since[late] >= (PATIENCE_S if late in told else LIMIT_S + 1)
            assert one.lost == (late in told)
            told.add(late)
            since[late] = now_s
        assert all(now_s - since[n] < (PATIENCE_S if n in told else LIMIT_S + 1) for n in since)
