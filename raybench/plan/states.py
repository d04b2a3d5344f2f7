"""What the dispatcher remembers of an engine, a node and a unit, and how often it tries."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raybench.records import CheckUnit, EvalUnit, PerfUnit

RETRIES: Mapping[str, int] = {
    "node_lost": 3,
    "engine_died": 2,
    "engine_start": 0,
    "timeout": 1,
    "client": 2,
    "bug": 1,
}
"""Retries of one unit by the cause of its failure; each cause has a budget of its own. `stopped` is never retried, and
neither is a unit that a check has stopped."""

ENGINE_START_TRIES = 2
"""Starts of one target's engine on one node before the node is given up for that target."""

REPLACEMENTS = 3
"""Nodes that may be made in place of one slot's lost ones."""


@dataclass(slots=True)
class EngineState:
    """An engine on its way up, up, or on its way down."""

    target: str
    launch: int
    phase: str
    """starting, ready or stopping."""
    checked: set[str] = field(default_factory=set[str])
    """Keys of the checks that have ended on this very engine."""


@dataclass(slots=True)
class NodeState:
    """A node that is there."""

    slot: int
    hosts: frozenset[str]
    targets: tuple[str, ...]
    engine: EngineState | None = None
    running: tuple[str, int] | None = None
    """(key, attempt)."""
    turn: int = 0
    """When it was last given something, so that nodes of one host take turns."""


@dataclass(slots=True)
class UnitState:
    """A unit and how far it has come."""

    unit: PerfUnit | EvalUnit | CheckUnit
    state: str = "pending"
    """pending, running, done, dropped or given_up."""
    attempt: int = 0
    failures: dict[str, int] = field(default_factory=dict[str, int])
    needed: bool = True
    """False: a rule dropped it while it ran, so that it may end but is not tried again."""
