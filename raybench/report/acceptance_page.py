"""The report's section on the acceptance of a fleet: its nodes by speed, and what could have been seen. Pure."""

from collections.abc import Sequence

from raybench.report.tables import Table, markdown_table
from raybench.stats.acceptance import POWERS, Ranking
from raybench.validity.acceptance import Acceptance

TITLE = "## Fleet acceptance"
LEAD = (
    "Every node of a target did the same work. *Slower* is how much longer a node took than the mean of the others, "
    "over all its passes; the interval holds the noise of passes and what is allowed between nodes that are well."
)


def acceptance_section(found: Sequence[Acceptance]) -> list[str]:
    """Blocks of the section; none where no sweep went over every node."""
    return [TITLE, LEAD, *(block for one in found for block in _blocks(one))] if found else []


def acceptance_lines(found: Sequence[Acceptance]) -> list[str]:
    """One sentence for every fleet."""
    return [f"{one.target} {one.sweep}: {_sentence(one)}" for one in found]


def _blocks(one: Acceptance) -> list[str]:
    head = f"### {one.target}: {one.sweep}"
    if one.ranking is None:
        return [head, _sentence(one)]
    cells = tuple(
        (
            node.node, f"{node.slower_fraction:+.1%}", f"{node.low_fraction:+.1%} to {node.high_fraction:+.1%}",
            f"{node.num_passes:,}", "**slow**" if node.slow else "as the others",
        )
        for node in one.ranking.nodes
    )  # fmt: skip
    heads = ("Node", "Slower", "95% interval", "Passes", "Verdict")
    return [head, _sentence(one), markdown_table(Table(heads, cells, num_left=1))]


def _sentence(one: Acceptance) -> str:
    ranking = one.ranking
    if ranking is None:
        return "Nothing to compare: it takes two nodes and two pieces of work that both did."
    names = ", ".join(f"{node.node} ({node.slower_fraction:+.1%})" for node in ranking.slow)
    said = f"slow: {names}." if names else "no node is slower than noise explains."
    missing = one.num_nodes - len(ranking.nodes)
    unseen = f" {missing} of {one.num_nodes} nodes were not measured." if missing > 0 else ""
    return f"{len(ranking.nodes)} nodes, {said}{unseen} {_power(ranking)}"


def _power(ranking: Ranking) -> str:
    return (
        f"The smallest slowness that could have been seen: {ranking.smallest_fraction:.1%} in {POWERS[0]:.0%} of "
        f"fleets, {ranking.sure_fraction:.1%} in {POWERS[1]:.0%} (measured noise {ranking.pass_fraction:.1%} a pass, "
        f"allowed between nodes {ranking.well_fraction:.1%}, {ranking.num_cells} passes a node)."
    )
