"""All units of a run, how far each has come and which node has its group, kept so that the next one is found without
looking at all of them.

Invariant: every unit is in exactly one state, and a state changes in `move` alone. What a queue holds beside the
pending units (those that were taken out of turn, dropped or given up) is thrown away when it comes to the head.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from raybench.plan.states import UnitState
from raybench.records import EvalUnit, Timed

Group = tuple[str, str, int, int]
"""(target, sweep, repeat, launch): perf units that stay on one node."""

Entry = tuple[int, str]
"""(place in the order of the units, key): the smallest goes first."""

STATES: tuple[str, ...] = ("pending", "running", "done", "dropped", "given_up")


@dataclass(slots=True)
class _Target:
    """Queues of one target, and how many of its units are pending or running."""

    timed: dict[Group, list[Entry]] = field(default_factory=dict[Group, list[Entry]])
    free: dict[int, list[tuple[int, Group]]] = field(default_factory=dict[int, "list[tuple[int, Group]]"])
    """By launch: (place of the first pending unit, group) of the groups that no node has."""
    blocks: list[Entry] = field(default_factory=list[Entry])
    num_open: int = 0
    num_timed: int = 0
    """Timed units that are pending."""


class Backlog:
    """The units. Checks are none of them: see `raybench.plan.preflight`."""

    def __init__(self, states: Iterable[UnitState]) -> None:
        """`states`: in the order in which the units are to be begun."""
        self._states: dict[str, UnitState] = {}
        self._places: dict[str, int] = {}
        self._targets: dict[str, _Target] = {}
        self._counts: dict[str, int] = dict.fromkeys(STATES, 0)
        self._owners: dict[Group, str] = {}
        self._owned: dict[str, dict[Group, None]] = {}
        """By node: its groups that have pending units, and some that have none any more."""
        for state in states:
            self.add(state)

    def add(self, state: UnitState) -> None:
        """Take a unit in; one whose key is known is left as it is."""
        unit = state.unit
        if unit.key in self._states:
            return
        self._states[unit.key] = state
        self._places[unit.key] = len(self._places)
        self._counts[state.state] += 1
        if state.state == "pending":
            self._of(unit.target).num_open += 1
            self._enqueue(state)

    def move(self, state: UnitState, to: str) -> None:
        """Change a unit's state."""
        before, state.state = state.state, to
        self._counts[before] -= 1
        self._counts[to] += 1
        target = self._of(state.unit.target)
        target.num_open += (to in ("pending", "running")) - (before in ("pending", "running"))
        if isinstance(state.unit, Timed):
            target.num_timed -= before == "pending"
        if to == "pending":
            self._enqueue(state)

    def __getitem__(self, key: str) -> UnitState:
        return self._states[key]

    def __contains__(self, key: str) -> bool:
        return key in self._states

    def counts(self) -> dict[str, int]:
        """Units by state."""
        return dict(self._counts)

    @property
    def num_pending(self) -> int:
        """Units that wait."""
        return self._counts["pending"]

    def num_open(self, target: str) -> int:
        """Units of the target that wait, or run and so may come back."""
        return self._of(target).num_open

    def num_timed(self, target: str) -> int:
        """Timed units of the target that wait."""
        return self._of(target).num_timed

    def targets(self) -> list[str]:
        """Targets that have or had work."""
        return list(self._targets)

    def units(self) -> Iterator[UnitState]:
        """All of them, in plan order."""
        return iter(self._states.values())

    def pending(self, target: str | None = None) -> list[UnitState]:
        """Those that wait, in plan order. Looks at every unit: for what happens seldom."""
        return [s for s in self._states.values() if s.state == "pending" and target in (None, s.unit.target)]

    # ------------------------------------------------------------------------------------------------------------ heads

    def next_block(self, target: str) -> UnitState | None:
        """The block of samples that goes next."""
        return self._head(self._of(target).blocks)

    def has_free_groups(self, target: str, launch: int, more_than: int) -> bool:
        """True if more than so many groups of a launch have pending units and no node."""
        free = (1 for group, _ in self._heads(target) if group[3] == launch and group not in self._owners)
        return next(islice(free, more_than, None), None) is not None

    def next_timed(self, target: str, launch: int, name: str) -> UnitState | None:
        """Next point for an engine on the node `name`: of its own groups first, then of one that none has."""
        own: UnitState | None = None
        for group in list(self._owned.get(name, ())):
            if group[0] != target or group[3] != launch:
                continue
            head = self._head(self._of(target).timed.get(group, []))
            if head is None:
                del self._owned[name][group]
            elif own is None or self.place(head) < self.place(own):
                own = head
        return own or self._next_free(target, launch)

    def _next_free(self, target: str, launch: int) -> UnitState | None:
        of = self._of(target)
        free = of.free.get(launch, [])
        while free:
            place, group = free[0]
            head = self._head(of.timed.get(group, []))
            if head is not None and group not in self._owners and self.place(head) == place:
                return head
            heappop(free)
            if head is not None and group not in self._owners:
                heappush(free, (self.place(head), group))
        return None

    def owner(self, group: Group) -> str | None:
        """Node that has the group; None for none."""
        return self._owners.get(group)

    def own(self, group: Group, name: str) -> None:
        """The node has the group from now on."""
        self._owners[group] = name
        self._owned.setdefault(name, {})[group] = None

    def disown(self, name: str, target: str | None = None) -> None:
        """Let other nodes have the groups of a node, all or those of one target."""
        for group in [g for g, owner in self._owners.items() if owner == name and target in (None, g[0])]:
            del self._owners[group]
            self._owned[name].pop(group, None)
            if (head := self._head(self._of(group[0]).timed.get(group, []))) is not None:
                self._offer(group, head)

    def disown_group(self, group: Group) -> None:
        """Take a group from whoever has it; the caller gives it to another at once."""
        owner = self._owners.pop(group, None)
        if owner is not None:
            self._owned[owner].pop(group, None)

    def first_timed(self, target: str, may: Callable[[Group], bool]) -> tuple[int, int] | None:
        """(place, launch) of the earliest point of a group that `may` be had; None for none."""
        found = [(self.place(head), group[3]) for group, head in self._heads(target) if may(group)]
        return min(found, default=None)

    def place(self, state: UnitState) -> int:
        """Place of a unit in the order in which they are begun."""
        return self._places[state.unit.key]

    def _heads(self, target: str) -> Iterator[tuple[Group, UnitState]]:
        groups = self._of(target).timed
        for group in list(groups):
            head = self._head(groups[group])
            if head is None:
                del groups[group]
            else:
                yield group, head

    def _head(self, queue: list[Entry]) -> UnitState | None:
        while queue:
            state = self._states[queue[0][1]]
            if state.state == "pending":
                return state
            heappop(queue)
        return None

    def _enqueue(self, state: UnitState) -> None:
        unit = state.unit
        entry = self._places[unit.key], unit.key
        target = self._of(unit.target)
        if isinstance(unit, Timed):
            target.num_timed += 1
            group = group_of(unit)
            heappush(target.timed.setdefault(group, []), entry)
            if (owner := self._owners.get(group)) is not None:
                self._owned[owner][group] = None
            elif self._head(target.timed[group]) is state:
                self._offer(group, state)
        elif isinstance(unit, EvalUnit):
            heappush(target.blocks, entry)

    def _offer(self, group: Group, head: UnitState) -> None:
        heappush(self._of(group[0]).free.setdefault(group[3], []), (self.place(head), group))

    def _of(self, target: str) -> _Target:
        found = self._targets.get(target)
        if found is None:
            found = self._targets[target] = _Target()
        return found


def group_of(unit: Timed) -> Group:
    """The group that a timed unit belongs to."""
    return unit.target, unit.sweep, unit.repeat, unit.launch
