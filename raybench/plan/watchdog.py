"""Ends what makes no progress, instead of waiting for ever. A pure state machine beside the dispatcher, told the time.

A block of samples makes progress with every sample that ends, everything else by ending; what waits for its machine
says so, and that counts too. What is overdue is ended at its node with what it has; a node that does not even do that
is not there any more, whatever Ray says.
"""

from dataclasses import dataclass

from raybench.records import AnyUnit, EvalUnit, Timed

GRACE_S = 300.0
"""Beyond the unit's own limit, which its node keeps: for the client's start, its calibration and its end."""
PATIENCE_S = 120.0
"""For a node to end a unit that it was told to end."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A unit that makes no progress."""

    node: str
    key: str
    reason: str
    lost: bool
    """True: it was told to end and did not; its node is to be given up."""


@dataclass(slots=True)
class _Running:
    unit: AnyUnit
    since_s: float
    told: bool = False

    @property
    def limit_s(self) -> float:
        if self.told:
            return PATIENCE_S
        # A sample whose connection broke is sent again until its limit is spent, and the last try has one of its own.
        factor = 2 if isinstance(self.unit, EvalUnit) else 1
        return factor * self.unit.timeout_s + GRACE_S


class Watchdog:
    """What runs where, and since when it has shown no progress."""

    def __init__(self) -> None:
        self._running: dict[str, dict[str, _Running]] = {}

    def started(self, node: str, unit: AnyUnit, now_s: float) -> None:
        """The node was given the unit."""
        self._running.setdefault(node, {})[unit.key] = _Running(unit, now_s)

    def moved(self, node: str, unit: str, now_s: float) -> None:
        """A sample of the unit has ended, or its node has said what it is about."""
        running = self._running.get(node, {}).get(unit)
        if running is not None and not running.told:
            running.since_s = now_s

    def ended(self, node: str, unit: str, now_s: float) -> None:
        """The unit's attempt is over: a point that waited behind it begins now."""
        there = self._running.get(node, {})
        there.pop(unit, None)
        for running in there.values():
            if isinstance(running.unit, Timed) and not running.told:
                running.since_s = now_s

    def lost(self, node: str) -> None:
        """The node is gone with everything that ran there."""
        self._running.pop(node, None)

    def overdue(self, now_s: float) -> list[Overdue]:
        """What has made no progress for too long; each of it is told once as overdue and once as lost."""
        found: list[Overdue] = []
        for node, there in self._running.items():
            heads = [r for r in there.values() if not isinstance(r.unit, Timed)] or list(there.values())[:1]
            for running in heads:
                quiet_s = now_s - running.since_s
                if quiet_s < running.limit_s:
                    continue
                what = "no sample ended" if isinstance(running.unit, EvalUnit) else "it did not end"
                reason = f"no progress: {what} within {quiet_s:.0f} s"
                found.append(Overdue(node, running.unit.key, reason, running.told))
                running.told, running.since_s = True, now_s
        return found
