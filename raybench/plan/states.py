"""What the dispatcher remembers of an engine, a node and a unit, and how often it tries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raybench.records import AnyUnit, Failure, Timed

RETRIES: Mapping[str, int] = {
    "node_lost": 3,
    "engine_died": 2,
    "engine_start": 0,
    "timeout": 1,
    "client": 2,
    "bug": 1,
}
"""Retries of one unit by the cause of its failure; each cause has a budget of its own. `stopped` and `withdrawn` cost
nothing; a unit that a check has stopped is not retried."""

FREE = ("stopped", "withdrawn")
"""Causes of a failure that cost a unit nothing."""

ENGINE_START_TRIES = 2
"""Starts of one target's engine on one node before the node is given up for that target."""

REPLACEMENTS = 3
"""Nodes that may be made in place of one slot's lost ones."""


Stay = Literal["idle", "drained"]
"""When an engine may stay up: without work left, or although the run is drained."""


@dataclass(slots=True)
class EngineState:
    """An engine on its way up, up, or on its way down."""

    target: str
    launch: int
    phase: str
    """starting, ready or stopping."""
    fault: str | None = None
    """Why it is to be stopped as soon as nothing runs on it any more; None = it is trusted."""
    checked: set[str] = field(default_factory=set[str])
    """Keys of the checks that have ended on this very engine."""


@dataclass(slots=True)
class NodeState:
    """A node that is there."""

    slot: int
    hosts: frozenset[str]
    targets: tuple[str, ...]
    engine: EngineState | None = None
    running: dict[str, int] = field(default_factory=dict[str, int])
    """Attempt by key of everything that the node was given and that has not ended, oldest first: one check, or one
    timed unit and the next one behind it, or blocks of samples that run side by side."""
    asked: dict[str, str] = field(default_factory=dict[str, str])
    """Key of the block by key of every sample that has not ended."""
    suspect: bool = False
    """True while it does not answer."""
    leaving: str | None = None
    """Why it gets no more work; None = it stays."""
    turn: int = 0
    """When it was last given something, so that nodes of one host take turns."""

    def serves(self, unit: AnyUnit) -> bool:
        """True if the engine that the node has, or is starting, can take the unit."""
        engine = self.engine
        if engine is None or engine.target != unit.target or engine.phase == "stopping" or engine.fault or self.leaving:
            return False
        return not isinstance(unit, Timed) or engine.launch == unit.launch


@dataclass(slots=True)
class UnitState:
    """A unit and how far it has come."""

    unit: AnyUnit
    state: str = "pending"
    """pending, running, done, dropped or given_up."""
    attempt: int = 0
    failures: dict[str, int] = field(default_factory=dict[str, int])
    needed: bool = True
    """False: a rule dropped it while it ran, so that it may end but is not tried again."""

    def is_spent_by(self, failure: Failure) -> bool:
        """Count a failure in; True if the unit is not to be tried again."""
        if failure.cause in FREE or not self.needed:
            return False
        self.failures[failure.cause] = self.failures.get(failure.cause, 0) + 1
        return self.failures[failure.cause] > RETRIES[failure.cause]
