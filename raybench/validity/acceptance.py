"""The acceptance of a fleet: which nodes of a target are slower than the others at the same work. Pure.

Only sweeps with `every_node` are judged: elsewhere nodes do different repeats, whose number says nothing of a node.
"""

from collections.abc import Iterator

from pydantic import Field

from raybench.ledger.view import RunView
from raybench.records import Finding, Record
from raybench.stats.acceptance import FALSE_ALARM, NodeSpeed, Ranking, rank
from raybench.validity.perf import perf_units


class Acceptance(Record):
    """What a sweep over every node of a target says of them."""

    target: str
    """Name of the target."""
    sweep: str
    """Name of the sweep."""
    num_nodes: int = Field(ge=1)
    """Nodes that were to be measured."""
    ranking: Ranking | None
    """The nodes beside each other; None where fewer than two were measured, or only one piece of work."""


def acceptances(view: RunView) -> tuple[Acceptance, ...]:
    """One for every target and every sweep that all nodes do, in plan order."""
    passes: dict[tuple[str, str], list[tuple[str, str, float]]] = {}
    repeats = {sweep.name: sweep.repeats for sweep in view.config.batch_sweeps if sweep.every_node}
    for unit, done, measurement in perf_units(view):
        seen = measurement.measured
        if unit.sweep in repeats and seen.num_ok == seen.num_requests and seen.latency_s > 0:
            cell = f"batch {unit.load.batch_size}, {unit.repeat % repeats[unit.sweep]}, {unit.launch}"
            passes.setdefault((unit.target, unit.sweep), []).append((done.node, cell, seen.latency_s))
    return tuple(
        Acceptance(
            target=target.name, sweep=name, num_nodes=target.nodes, ranking=rank(passes.get((target.name, name), []))
        )
        for target in view.config.targets
        for name in repeats
    )  # fmt: skip


def acceptance_findings(view: RunView) -> list[Finding]:
    """`slow_node` for every node that is slower than noise explains."""
    return [
        _slow_node(found.target, node, found.ranking)
        for found in acceptances(view)
        if found.ranking is not None
        for node in found.ranking.slow
    ]


def _slow_node(target: str, node: NodeSpeed, ranking: Ranking) -> Finding:
    return Finding(
        code="slow_node", severity="warn", scope="target", target=target,
        rule=(
            f"at the same work no node may take longer than the mean of the others by more than noise of "
            f"{ranking.pass_fraction:.1%} a pass and {ranking.well_fraction:.1%} between nodes explains (one false "
            f"alarm in {1 / FALSE_ALARM:,.0f} fleets): {ranking.needed_fraction:.1%}"
        ),
        evidence=dict(_evidence(node, ranking)),
        advice=(
            f"{node.node} is slow. {_other(ranking)}Compare its clocks, temperatures, power limit and driver "
            "with those of the others, look for other processes on it, then measure again; leave it out of the fleet "
            "or give it back if it stays slow."
        ),
    )  # fmt: skip


def _other(ranking: Ranking) -> str:
    two = "Of two nodes nobody can say whether one is slow or the other quick. "
    return two if len(ranking.nodes) == 2 else ""


def _evidence(node: NodeSpeed, ranking: Ranking) -> Iterator[tuple[str, float]]:
    yield "slower_fraction", node.slower_fraction
    yield "low_fraction", node.low_fraction
    yield "high_fraction", node.high_fraction
    yield "num_passes", float(node.num_passes)
    yield "num_nodes", float(len(ranking.nodes))
    yield "smallest_fraction", ranking.smallest_fraction
