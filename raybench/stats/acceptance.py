"""Is one node of a fleet slower than the others, and how small a difference could have been seen? Pure.

Every node does the same work, cell by cell (load point and repeat). The logarithm of a time is the cell's, plus the
node's, plus noise. Nodes that are well differ a little as well (cooling, memory, the place in the rack), and a handful
of nodes cannot tell how much: an estimate from eight nodes of which one may be ill would hide the ill one. So what is
allowed between well nodes is a number of the recipe, not of the data; the noise of single passes is estimated.

A node is held against the mean of the others. The slowest one is tested first, at a level that holds for the whole
fleet; when it is found, it is taken out and the next one is tested, so that two slow nodes do not hide each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np
from pydantic import Field

from raybench.records import Record
from raybench.stats.distributions import normal_quantile, t_quantile

WELL_FRACTION = 0.01
"""Standard deviation between nodes that are well."""

FALSE_ALARM = 0.0075
"""Chance that a fleet without a slow node has one named; below 1%, so that 1,000 such fleets have at most ten."""

POWERS = (0.8, 0.95)
"""Chances with which the smallest effects are given."""


class NodeSpeed(Record):
    """One node beside the others of its fleet."""

    node: str
    """Short name."""
    num_passes: int = Field(ge=1)
    """Measured passes."""
    slower_fraction: float
    """How much longer it takes than the mean of the other nodes; negative = it is quicker."""
    low_fraction: float
    """Lower end of the 95% interval, noise of passes and between well nodes included."""
    high_fraction: float
    """Upper end."""
    slow: bool
    """True if that is more than noise, at the level that holds for the whole fleet."""


class Ranking(Record):
    """The nodes of a fleet, the slowest first."""

    nodes: tuple[NodeSpeed, ...]
    """Nodes, the slowest first."""
    num_cells: int = Field(ge=1)
    """Pieces of work that every node was to do."""
    pass_fraction: float = Field(ge=0)
    """Standard deviation of a single pass, as measured, nodes and cells taken out."""
    well_fraction: float = Field(ge=0)
    """Standard deviation that is allowed between nodes that are well."""
    needed_fraction: float = Field(gt=0)
    """A node that is slower than the others by more than this is named."""
    smallest_fraction: float = Field(gt=0)
    """Smallest slowness that would have been seen in four of five fleets (power 80%)."""
    sure_fraction: float = Field(gt=0)
    """Smallest slowness that would have been seen in 19 of 20 fleets (power 95%)."""

    @property
    def slow(self) -> tuple[NodeSpeed, ...]:
        """The nodes that are slow, the slowest first."""
        return tuple(node for node in self.nodes if node.slow)


@dataclass(frozen=True, slots=True)
class _Fit:
    effects: Mapping[str, float]
    """Logarithm of every node's slowness, with a mean of 0."""
    num_passes: Mapping[str, int]
    noise: float
    num_degrees: float


def rank(passes: Iterable[tuple[str, str, float]], well_fraction: float = WELL_FRACTION) -> Ranking | None:
    """Rank the nodes by (node, cell, seconds) of their passes.

    None where there is nothing to compare: fewer than two nodes, or no noise to be estimated (one cell). Cells that
    only one node did are left out. Raises ValueError for a time that is not positive.
    """
    seen = list(passes)
    nodes_of: dict[str, set[str]] = {}
    for node, cell, seconds in seen:
        if not seconds > 0:
            raise ValueError(f"{node}, {cell}: {seconds} s is no time")
        nodes_of.setdefault(cell, set()).add(node)
    shared = [one for one in seen if len(nodes_of[one[1]]) > 1]
    cells = list(dict.fromkeys(cell for _, cell, _ in shared))
    names = list(dict.fromkeys(node for node, _, _ in shared))
    degrees = len(shared) - len(cells) - len(names) + 1
    if len(names) < 2 or degrees < 1:
        return None
    fit = _fit(shared, names, cells, degrees)
    slow = _slow(fit, well_fraction)
    rows = tuple(
        _speed(name, fit, well_fraction, slow=name in slow)
        for name in sorted(names, key=lambda name: (-_beside(fit, name, names)[0], name))
    )
    typical = min(fit.num_passes.values())
    error, degrees_of = _error(fit, typical, len(names) - 1, well_fraction)
    needed = t_quantile(1 - FALSE_ALARM / len(names), degrees_of) * error
    return Ranking(
        nodes=rows, num_cells=len(cells), pass_fraction=fit.noise, well_fraction=well_fraction,
        needed_fraction=exp(needed) - 1, smallest_fraction=exp(needed + normal_quantile(POWERS[0]) * error) - 1,
        sure_fraction=exp(needed + normal_quantile(POWERS[1]) * error) - 1,
    )  # fmt: skip


def _fit(shared: Sequence[tuple[str, str, float]], names: list[str], cells: list[str], degrees: int) -> _Fit:
    """Least squares of cells and nodes: every node counts alike, also where some of its passes are missing."""
    column = {name: i for i, name in enumerate([*(("cell", cell) for cell in cells), *(("node", n) for n in names)])}
    design = np.zeros((len(shared) + 1, len(column)))
    rows = np.arange(len(shared))
    design[rows, [column["cell", cell] for _, cell, _ in shared]] = 1.0
    design[rows, [column["node", node] for node, _, _ in shared]] = 1.0
    design[-1, len(cells) :] = 1.0  # the nodes' effects have a mean of 0
    values = np.array([*(log(seconds) for _, _, seconds in shared), 0.0])
    # By the normal equations: ones and zeros are as well conditioned as it gets, and a simulation solves thousands.
    # Least squares where groups of nodes have no cell in common.
    normal, right = design.T @ design, design.T @ values
    found = np.linalg.lstsq(normal, right, rcond=1e-9)[0]
    rest = values - design @ found
    effects = {name: float(found[column["node", name]]) for name in names}
    counts = {name: sum(1 for node, _, _ in shared if node == name) for name in names}
    return _Fit(effects, counts, sqrt(float(rest @ rest) / degrees), float(degrees))


def _slow(fit: _Fit, well_fraction: float) -> set[str]:
    left = sorted(fit.effects, key=lambda name: (-fit.effects[name], name))
    level = FALSE_ALARM / len(left)
    slow: set[str] = set()
    while len(left) > 1:
        effect, num_passes = _beside(fit, left[0], left)
        error, degrees = _error(fit, num_passes, len(left) - 1, well_fraction)
        if effect <= t_quantile(1 - level, degrees) * error:
            return slow
        slow.add(left.pop(0))
    return slow


def _beside(fit: _Fit, name: str, names: Iterable[str]) -> tuple[float, int]:
    """Logarithm of how much longer the node takes than the mean of the others, and its passes."""
    others = [fit.effects[other] for other in names if other != name]
    return fit.effects[name] - sum(others) / len(others), fit.num_passes[name]


def _error(fit: _Fit, num_passes: int, num_others: int, well_fraction: float) -> tuple[float, float]:
    """Standard error of a node beside the mean of others, and its degrees of freedom (Satterthwaite)."""
    own = fit.noise**2 / num_passes
    whole = well_fraction**2 + own
    degrees = inf if own == 0 else fit.num_degrees * (whole / own) ** 2
    return sqrt(whole * (1 + 1 / num_others)), min(degrees, 1e6)


def _speed(name: str, fit: _Fit, well_fraction: float, *, slow: bool) -> NodeSpeed:
    effect, num_passes = _beside(fit, name, fit.effects)
    error, degrees = _error(fit, num_passes, len(fit.effects) - 1, well_fraction)
    half = t_quantile(0.975, degrees) * error
    return NodeSpeed(
        node=name, num_passes=num_passes, slower_fraction=exp(effect) - 1, low_fraction=exp(effect - half) - 1,
        high_fraction=exp(effect + half) - 1, slow=slow,
    )  # fmt: skip
