"""Which node measures which points.

All points of one (sweep, repeat, launch) stay on one node: the first that takes one has the group. One point of every
target goes first, alone: whatever breaks it would break all nodes of the target at once. The cheapest is taken. Until
it has come back, no other point of its target runs on any node; when it has been given up, the others are given up with
it, for a fleet would only fail at the same thing many times over.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from raybench.plan.backlog import Backlog, Group, group_of
from raybench.plan.states import EngineState, UnitState
from raybench.records import AnyUnit, LoadUnit, PerfUnit, Timed
from raybench.records.loads import ClosedLoad, OpenLoad, RampLoad, ServingLoad, SessionsLoad, TraceLoad


class Points:
    """The point that goes first in every target, and what follows for its nodes."""

    def __init__(self, backlog: Backlog, places: Mapping[tuple[str, int], int] | None = None) -> None:
        """A target of which a point has come back in an earlier session needs no first one any more.

        `places`: slot of each (target, place). The groups of a place are its slot's own, whichever node fills it, and
        no point of theirs goes first: they are there to see whether each node is well.
        """
        self._backlog = backlog
        self._homes: dict[Group, int | None] = {}
        for state in backlog.units():
            unit = state.unit
            if isinstance(unit, PerfUnit) and unit.place is not None:
                self._homes[group_of(unit)] = (places or {}).get((unit.target, unit.place))
        self._backlog_home()
        first: dict[str, UnitState] = {}
        proven: set[str] = set()
        for state in backlog.units():
            unit = state.unit
            if not isinstance(unit, Timed) or group_of(unit) in self._homes:
                continue
            if state.state == "done":
                proven.add(unit.target)
            elif unit.target not in first or _cost(unit) < _cost(first[unit.target].unit):
                first[unit.target] = state
        self._first = {target: state for target, state in first.items() if target not in proven}

    def _backlog_home(self) -> None:
        for group, slot in self._homes.items():
            if self._backlog.owner(group) is None:
                self._backlog.own(group, _home(slot))

    def joined(self, name: str, slot: int, targets: Iterable[str]) -> None:
        """A node fills a slot: the groups of its places are its own from now on."""
        for group, home in self._homes.items():
            if home == slot and group[0] in targets:
                self._backlog.disown_group(group)
                self._backlog.own(group, name)

    def home(self, unit: AnyUnit) -> tuple[bool, int | None]:
        """(True, slot) for a unit that only the node of this slot may do, None where no slot has its place;
        (False, None) for one that any node of its target may do."""
        group = group_of(unit) if isinstance(unit, Timed) else None
        return (True, self._homes[group]) if group in self._homes else (False, None)

    @property
    def any_at_home(self) -> bool:
        """True if there are units that only one node may do."""
        return bool(self._homes)

    def first(self, target: str) -> UnitState | None:
        """The point that must come back before any other runs; None where one has, or where none could."""
        state = self._first.get(target)
        if state is not None and state.state in ("done", "dropped"):
            del self._first[target]
            return None
        return state

    def failed(self, target: str) -> UnitState | None:
        """The target's first point, if it was given up while others wait for it."""
        state = self.first(target)
        waits = state is not None and state.state == "given_up" and self._backlog.num_timed(target)
        return state if waits else None

    def next(self, name: str, engine: EngineState) -> UnitState | None:
        """Next point for a node's engine: the target's first one alone, then its own groups', then one of a group that
        no node has."""
        first = self.first(engine.target)
        if first is None:
            return self._backlog.next_timed(engine.target, engine.launch, name)
        return first if self.leads(name, engine.target) == engine.launch else None

    def leads(self, name: str, target: str) -> int | None:
        """Launch on which the node may run the target's first point now; None if it may not."""
        first = self.first(target)
        if first is None or first.state != "pending" or not isinstance(first.unit, Timed):
            return None
        return first.unit.launch if self.may_have(name, group_of(first.unit)) else None

    def follow(self, engine: EngineState) -> bool:
        """True while points of the engine's own launch wait for the target's first one."""
        first = self.first(engine.target)
        if first is None or not isinstance(first.unit, Timed) or first.unit.launch != engine.launch:
            return False
        return self._backlog.num_timed(engine.target) > 0

    def may_have(self, name: str, group: Group) -> bool:
        """True if the node has the group, or nobody has."""
        return self._backlog.owner(group) in (None, name)

    def take(self, name: str, unit: AnyUnit) -> None:
        """The node is given the unit."""
        if isinstance(unit, Timed):
            self._backlog.own(group_of(unit), name)

    def unpin(self, name: str, target: str | None = None) -> None:
        """Let other nodes take the groups of a node that can no longer serve them."""
        self._backlog.disown(name, target)
        self._backlog_home()

    def spare(self, name: str, engine: EngineState, num_others: int) -> bool:
        """True if the node's next point may wait there: it is of a group of the node's own, or there are more free
        groups than other nodes, which could begin theirs at once."""
        state = self.next(name, engine)
        if state is None or not isinstance(state.unit, Timed):
            return False
        if self._backlog.owner(group_of(state.unit)) is not None:
            return True
        return self._backlog.has_free_groups(engine.target, engine.launch, num_others)

    def startable(self, name: str, target: str, *, blocks: bool) -> tuple[int, str, int] | None:
        """(place in the plan, target, launch) of the first unit for which the node may start an engine of the target.

        `blocks`: whether samples may be answered.
        """
        found = [self._backlog.first_timed(target, lambda group: self.may_have(name, group))]
        if (first := self.first(target)) is not None and (launch := self.leads(name, target)) is not None:
            found = [(self._backlog.place(first), launch)]
        if blocks and (block := self._backlog.next_block(target)) is not None:
            found.append((self._backlog.place(block), 0))
        place = min((one for one in found if one is not None), default=None)
        return None if place is None else (place[0], target, place[1])


def _home(slot: int | None) -> str:
    """Owner of a slot's groups while no node fills it; no node is called so."""
    return f"slot {slot}"


def _cost(unit: AnyUnit) -> tuple[int, int, float]:
    """Launches in their order, and points of a static batch before serving loads, which take minutes."""
    assert isinstance(unit, Timed)
    if isinstance(unit, LoadUnit):
        return unit.launch, 1, _num_requests(unit.load)
    load = unit.load
    return unit.launch, 0, float(load.batch_size * (load.input_tokens + load.output_tokens))


def _num_requests(load: ServingLoad) -> float:
    """About how many requests a load sends; a conversation counts as one."""
    match load:
        case ClosedLoad():
            return float(load.concurrency * load.turnovers)
        case OpenLoad():
            return load.rate_per_s * load.duration_s
        case RampLoad():
            return (load.start_rate_per_s + load.end_rate_per_s) / 2 * load.duration_s
        case TraceLoad():
            return float(len(load.at_s))
        case SessionsLoad():
            return float(load.concurrency * load.sessions)
        case _:
            assert_never(load)
