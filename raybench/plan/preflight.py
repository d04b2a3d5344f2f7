"""Which checks a node owes before its engine answers scored samples, and which targets a check has stopped.

A check belongs to a place of its target: the how-manieth node it is, which a node that replaces a lost one takes over.
It has to be made on every engine that is to serve evals; so it is done for one engine only, and the next engine of its
place makes it again as a new attempt of the same key. Nobody starts an engine for a check, and no run waits for one:
where no samples are left, none are owed.
"""

from collections.abc import Iterable, Mapping

from raybench.plan.states import NodeState, UnitState
from raybench.records import CheckUnit


class Preflight:
    """The checks of all targets."""

    def __init__(
        self, checks: Iterable[CheckUnit], slots: Mapping[int, tuple[str, ...]], attempts: Mapping[str, int]
    ) -> None:
        """`attempts`: highest attempt of each key in earlier sessions, whose engines are gone with their checks."""
        places = places_of(slots)
        self._owed: dict[tuple[str, int], list[UnitState]] = {}
        self.states: dict[str, UnitState] = {}
        """By key."""
        for check in checks:
            state = UnitState(check, attempt=attempts.get(check.key, 0))
            self.states[check.key] = state
            if (slot := places.get((check.target, check.place))) is not None:
                self._owed.setdefault((check.target, slot), []).append(state)
        self.stopped: dict[str, str] = {}
        """Targets of which no eval may start any more, with the reason."""

    def owed(self, node: NodeState) -> UnitState | None:
        """The next check that the node's engine owes before it may answer samples."""
        if node.engine is None:
            return None
        states = self._owed.get((node.engine.target, node.slot), [])
        checked = node.engine.checked
        return next((s for s in states if s.state != "given_up" and s.unit.key not in checked), None)

    def done(self, state: UnitState, node: NodeState, stop: str | None) -> None:
        """A check has ended on the node; `stop`: why no eval of its target may start, None if they may."""
        state.state = "pending"
        if node.engine is not None:
            node.engine.checked.add(state.unit.key)
        if stop is not None:
            self.stopped.setdefault(state.unit.target, stop)


def places_of(slots: Mapping[int, tuple[str, ...]]) -> dict[tuple[str, int], int]:
    """Slot of each (target, place): a target's places are its slots in their order."""
    places: dict[tuple[str, int], int] = {}
    count: dict[str, int] = {}
    for slot in sorted(slots):
        for target in slots[slot]:
            places[target, count.get(target, 0)] = slot
            count[target] = count.get(target, 0) + 1
    return places
