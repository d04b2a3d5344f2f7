"""What the nodes of a ledger did with their time: record after record in, seconds out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raybench.records import LedgerRecord

Body = Mapping[str, object]


@dataclass(slots=True)
class NodeUsage:
    """One node. Times in seconds on the driver's clock."""

    present_s: float = 0.0
    """From when it joined until it was lost or the session ended."""
    busy_s: float = 0.0
    """With at least one unit."""
    starting_s: float = 0.0
    """While an engine was on its way up."""
    _at: float = 0.0
    _running: set[str] = field(default_factory=set[str])
    _starting: bool = False
    _over: bool = False

    @property
    def idle_fraction(self) -> float | None:
        """Share of its time with neither a unit nor an engine on its way; None for a node that was hardly there."""
        if self.present_s <= 0:
            return None
        return max(self.present_s - self.busy_s - self.starting_s, 0.0) / self.present_s

    def advance(self, t: float) -> None:
        """Count the time until now."""
        if self._over:
            return
        passed_s = max(t - self._at, 0.0)
        self.present_s += passed_s
        self.busy_s += passed_s if self._running else 0.0
        self.starting_s += passed_s if self._starting and not self._running else 0.0
        self._at = t

    def begin(self, t: float) -> None:
        """It is there."""
        self._at = t

    def change(self, record: LedgerRecord) -> None:
        """Take in what the record says of the node."""
        what = record.body.get("what") if record.kind == "decision" else None
        if record.kind == "unit_started":
            self._running.add(record.key or "")
        elif record.kind in ("unit_done", "unit_failed"):
            self._running.discard(record.key or "")
        elif record.kind == "engine" or what == "engine_start_failed":
            self._starting = False
        elif what == "start_engine":
            self._starting = True
        elif what in ("node_lost", "node_released"):
            self.end()

    def end(self) -> None:
        """Nothing more is counted."""
        self._over = True


class Usage:
    """All nodes, and when the units of the last session ended."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeUsage] = {}
        """By short name."""
        self.session_t = 0.0
        """Wall clock of the last session's first record."""
        self.done_t: dict[str, float] = {}
        """Wall clock of the last session's results, by unit key."""

    def take(self, record: LedgerRecord) -> None:
        """Take one record in."""
        if record.kind == "run":
            for node in self.nodes.values():
                node.end()
            self.session_t, self.done_t = record.t, {}
        elif record.kind == "node":
            self.nodes.setdefault(record.node or "", NodeUsage()).begin(record.t)
        elif record.kind == "decision" and record.body.get("what") in ("end", "interrupted"):
            for node in self.nodes.values():
                node.advance(record.t)
                node.end()
        elif (node := self.nodes.get(record.node or "")) is not None:
            node.advance(record.t)
            node.change(record)
        if record.kind == "unit_done" and record.key is not None:
            self.done_t[record.key] = record.t
