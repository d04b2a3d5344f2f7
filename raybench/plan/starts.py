"""Which node may still try to start which target's engine, and why a target cannot be served any more."""

from raybench.plan.states import ENGINE_START_TRIES
from raybench.records import Failure


class Starts:
    """What went wrong with engines and slots so far."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], int] = {}
        """Failed starts by (node, target)."""
        self._refused: dict[str, str] = {}
        """Why the last start of a target's engine failed."""
        self._slot_reasons: list[str] = []

    def succeeded(self, node: str, target: str) -> None:
        """An engine is ready."""
        self._failures.pop((node, target), None)

    def failed(self, node: str, target: str, reason: str, *, retry: bool) -> None:
        """A start has failed; without `retry` no other would do better."""
        tries = self._failures.get((node, target), 0) + 1
        self._failures[node, target] = tries if retry else ENGINE_START_TRIES
        self._refused[target] = reason

    def slot_lost(self, reason: str) -> None:
        """No node can be had for a slot."""
        self._slot_reasons.append(reason)

    def may(self, node: str, target: str) -> bool:
        """True if the node may start an engine of the target."""
        return self._failures.get((node, target), 0) < ENGINE_START_TRIES

    def why_not(self, target: str) -> Failure:
        """Why a target cannot be served any more."""
        if target in self._refused:
            return Failure(cause="engine_start", message=self._refused[target])
        why = ("no node is left that could serve the target", *self._slot_reasons)
        return Failure(cause="node_lost", message="; ".join(why))
