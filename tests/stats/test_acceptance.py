"""The acceptance of a fleet on simulated noise, nested as on real machines: 2% per point, 1% between nodes."""

import math
import random

import pytest

from raybench.stats.acceptance import Ranking, rank

NUM_NODES, NUM_POINTS, NUM_REPEATS = 8, 6, 4
SEEDS = range(1000)


def fleet(seed: int, slower: float = 0.0, num_nodes: int = NUM_NODES) -> Ranking:
    """Node `n3` takes longer by `slower`."""
    rng = random.Random(f"fleet {seed}")
    passes = []
    for node in range(num_nodes):
        effect = rng.gauss(0, 0.01) + (math.log1p(slower) if node == 3 else 0.0)
        for point in range(NUM_POINTS):
            for repeat in range(NUM_REPEATS):
                seconds = (1 + point) * math.exp(effect + rng.gauss(0, 0.02))
                passes.append((f"n{node}", f"b{point} r{repeat}", seconds))
    found = rank(passes)
    assert found is not None
    return found


def test_a_thousand_fleets_without_a_slow_node_have_at_most_one_percent_false_alarms() -> None:
    alarms = sum(bool(fleet(seed).slow) for seed in SEEDS)
    assert alarms <= len(SEEDS) // 100
    # Not because it is deaf: at a level of 0.75% a thousand fleets bring some.
    assert alarms >= 1


def test_one_node_made_five_percent_slower_is_found_as_often_as_the_power_says() -> None:
    rankings = [fleet(seed, 0.05) for seed in range(400)]
    found = sum([node.node for node in one.slow] == ["n3"] for one in rankings) / len(rankings)
    assert found >= 0.85
    assert sum(one.nodes[0].node == "n3" for one in rankings) / len(rankings) > 0.99
    # 5% lies between the effects that are seen with a power of 80% and of 95%.
    assert all(one.smallest_fraction < 0.05 < one.sure_fraction for one in rankings)


@pytest.mark.parametrize("num_nodes", [4, 16])
def test_the_printed_effects_are_seen_with_the_printed_power(num_nodes: int) -> None:
    one = fleet(0, num_nodes=num_nodes)
    for effect, power in ((one.smallest_fraction, 0.8), (one.sure_fraction, 0.95)):
        seen = sum(any(n.node == "n3" for n in fleet(seed, effect, num_nodes).slow) for seed in range(300)) / 300
        assert seen == pytest.approx(power, abs=0.07)


def test_noise_and_slowness_are_read_as_they_were_made() -> None:
    found = fleet(7, 0.2)
    assert found.pass_fraction == pytest.approx(0.02, rel=0.15)
    slowest = found.nodes[0]
    assert (slowest.node, slowest.slow, slowest.num_passes) == ("n3", True, NUM_POINTS * NUM_REPEATS)
    assert slowest.low_fraction < 0.2 < slowest.high_fraction
    assert [n.slower_fraction for n in found.nodes] == sorted((n.slower_fraction for n in found.nodes), reverse=True)
    assert found.num_cells == NUM_POINTS * NUM_REPEATS


def test_two_slow_nodes_do_not_hide_each_other() -> None:
    passes = [
        (f"n{node}", f"c{cell}", (1.1 if node < 2 else 1.0) * (1 + 0.001 * ((node * 7 + cell * 3) % 5)))
        for node in range(6)
        for cell in range(6)
    ]
    found = rank(passes)
    assert found is not None and {node.node for node in found.slow} == {"n0", "n1"}


def test_missing_passes_are_no_slowness() -> None:
    """A node that did only the long points is held against the others on those."""
    passes = [
        (f"n{node}", f"c{cell}", (1.0 + cell) * (1 + 0.002 * ((node + cell) % 3)))
        for node in range(4)
        for cell in range(8)
        if node or cell > 4
    ]
    found = rank(passes)
    assert found is not None and not found.slow
    assert {node.node: node.num_passes for node in found.nodes}["n0"] == 3
    assert all(abs(node.slower_fraction) < 0.01 for node in found.nodes)


def test_nothing_to_compare() -> None:
    assert rank([]) is None
    assert rank([("n0", "a", 1.0), ("n0", "b", 1.0)]) is None, "one node"
    assert rank([("n0", "a", 1.0), ("n1", "a", 1.1)]) is None, "one cell has no noise of its own"
    assert rank([("n0", "a", 1.0), ("n1", "b", 1.1), ("n1", "c", 1.1)]) is None, "nothing in common"
    with pytest.raises(ValueError, match=r"n0, a: 0\.0 s is no time"):
        rank([("n0", "a", 0.0), ("n1", "a", 1.0)])
    even = rank([(node, cell, 1.0) for node in ("n0", "n1") for cell in "abc"])
    assert even is not None and not even.slow and even.pass_fraction < 1e-9
