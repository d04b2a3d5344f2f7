"""Which nodes share a machine, and what may run there at once."""

from collections.abc import Callable, Mapping

from raybench.plan.states import NodeState, UnitState
from raybench.records import Timed


class Hosts:
    """Looks at the dispatcher's nodes; keeps only who lies where."""

    def __init__(self, nodes: Mapping[str, NodeState], state_of: Callable[[str], UnitState]) -> None:
        self._nodes = nodes
        self._state_of = state_of
        self._on: dict[str, set[str]] = {}

    def add(self, name: str) -> None:
        """A node is there."""
        for host in self._nodes[name].hosts:
            self._on.setdefault(host, set()).add(name)

    def remove(self, name: str) -> None:
        """A node is about to be forgotten."""
        if name in self._nodes:
            for host in self._nodes[name].hosts:
                self._on[host].discard(name)

    def neighbours(self, name: str) -> list[str]:
        """Other nodes with a host in common, in a stable order."""
        return sorted({other for host in self._nodes[name].hosts for other in self._on[host]} - {name})

    def free(self, name: str, *, alone: bool, wants_perf: Callable[[str], bool]) -> bool:
        """True if a unit may run there now; `alone` for a perf unit, which tolerates nothing beside it.

        `wants_perf`: whether a node has a perf unit to run. Evals would keep the host busy for as long as there are
        any, so that they wait for it.
        """
        for other_name in self.neighbours(name):
            other = self._nodes[other_name]
            starting = other.engine is not None and other.engine.phase != "ready"
            if self._measures(other) or (alone and (other.running or starting)):
                return False
            if not alone and wants_perf(other_name):
                return False
        return True

    def quiet(self, name: str) -> bool:
        """True if an engine may start there: no perf unit is running on any of the hosts."""
        return not any(self._measures(self._nodes[other]) for other in self.neighbours(name))

    def _measures(self, node: NodeState) -> bool:
        return any(isinstance(self._state_of(key).unit, Timed) for key in node.running)
