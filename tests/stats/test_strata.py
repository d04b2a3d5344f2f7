"""Groups beside the others on the same questions."""

import random
from collections.abc import Iterator

import pytest

from raybench.stats.strata import group_effects, trend_p


def _marks(
    rng: random.Random, chance: dict[str, float], num_questions: int = 30, repeats: int = 16
) -> Iterator[tuple[str, str, bool]]:
    nodes = list(chance)
    for question in range(num_questions):
        ease = question / num_questions
        for repeat in range(repeats):
            node = nodes[(question + repeat) % len(nodes)]
            yield f"q{question}", node, rng.random() < ease * chance[node]


def test_one_bad_group_is_found_and_the_others_are_not() -> None:
    effects = group_effects(_marks(random.Random(1), {"n0": 1.0, "n1": 1.0, "n2": 0.4, "n3": 1.0}))
    assert effects[0].group == "n2"
    assert effects[0].p_value < 0.001
    assert effects[0].share < effects[0].expected
    assert effects[0].num == 120


def test_equal_groups_are_found_as_seldom_as_the_level_says() -> None:
    lowest = [
        group_effects(_marks(random.Random(seed), dict.fromkeys(("n0", "n1", "n2", "n3"), 1.0), repeats=8))[0].p_value
        for seed in range(300)
    ]
    assert sum(p < 0.05 for p in lowest) / 300 <= 0.05 + 0.038


def test_harder_questions_are_no_fault_of_the_group_that_got_them() -> None:
    marks = [(f"q{i}", "easy" if i < 20 else "hard", i < 20) for i in range(40) for _ in range(4)]
    assert group_effects(marks) == ()


def test_two_groups_agree_with_the_common_mantel_haenszel_test() -> None:
    from statsmodels.stats.contingency_tables import StratifiedTable

    marks = list(_marks(random.Random(3), {"a": 1.0, "b": 0.7}, num_questions=12, repeats=10))
    tables = []
    for question in sorted({q for q, _, _ in marks}):
        own = [(group, right) for q, group, right in marks if q == question]
        if 0 < sum(right for _, right in own) < len(own):
            tables.append([[own.count((name, right)) for right in (True, False)] for name in "ab"])
    expected = StratifiedTable(tables).test_null_odds(correction=False).pvalue
    # Two groups, one comparison: Holm counts it twice.
    assert group_effects(marks)[0].p_value == pytest.approx(min(1.0, 2 * expected), rel=1e-6)


def test_a_fall_over_the_repeats_is_found_and_a_level_run_is_not() -> None:
    rng = random.Random(5)
    falling = [(f"q{q}", r, rng.random() < 0.9 - 0.05 * r) for q in range(20) for r in range(12)]
    level = [(f"q{q}", r, rng.random() < q / 20) for q in range(20) for r in range(12)]
    found = trend_p(falling)
    assert found is not None
    assert found[0] == pytest.approx(-0.05, abs=0.02)
    assert found[1] < 1e-4
    quiet = trend_p(level)
    assert quiet is not None and quiet[1] > 0.01
    assert trend_p([("q", 0, True), ("q", 1, True), ("r", 0, False)]) is None
