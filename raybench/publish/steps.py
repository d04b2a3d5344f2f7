"""Which history rows a ledger gives, and under which steps. Pure.

The step of a row is the place in the ledger of the record that made its load point whole, so that publishing a longer
ledger of the same run only adds rows. W&B draws rows in the order of their steps, and load points are measured in an
order drawn from the seed: a row is therefore held back until all points before it in the plan are whole, or the session
has ended, and its step is raised above the one before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from raybench.ledger.view import RunView
from raybench.load.words import point_value
from raybench.records import LedgerRecord, LoadUnit, PerfUnit

PointId = tuple[str, str, float]
"""Target, sweep, and what the sweep varies: batch size, users, requests per second."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rows of one target."""

    points: tuple[tuple[int, PointId], ...]
    """(step, load point), rising."""
    last_step: int
    """Step of tables and figures, above all rows of the sessions so far."""


def schedule(records: Iterable[LedgerRecord], view: RunView, target: str, *, closed: bool) -> Schedule:
    """Rows that the ledger gives for a target; `closed` = nobody will add to the last session."""
    pending = _Pending(_members(view, target))
    last_seq = 0
    for record in records:
        if record.kind == "run" and record.seq > 0:
            pending.close()
        if record.kind == "unit_done" and record.key is not None:
            pending.done(record.key, record.seq)
        last_seq = record.seq if record.kind == "run" else last_seq
    if closed:
        pending.close()
    return Schedule(tuple(pending.emitted), max(pending.step, last_seq))


def _members(view: RunView, target: str) -> dict[PointId, set[str]]:
    """Keys of the units of every load point, by sweep and what it varies; probes of a search are no points."""
    sweeps = [sweep.name for sweep in view.config.perf]
    found: dict[PointId, set[str]] = {}
    for key, unit in view.units.items():
        if unit.target != target:
            continue
        if isinstance(unit, PerfUnit):
            found.setdefault((target, unit.sweep, unit.load.batch_size), set()).add(key)
        elif isinstance(unit, LoadUnit) and unit.probe is None:
            found.setdefault((target, unit.sweep, point_value(unit.load)), set()).add(key)
    return dict(sorted(found.items(), key=lambda item: (_place(sweeps, item[0][1]), item[0][2])))


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


class _Pending:
    """Points that have no row yet, in the order of their rows."""

    def __init__(self, members: dict[PointId, set[str]]) -> None:
        self.emitted: list[tuple[int, PointId]] = []
        self.step = -1
        self._waiting = list(members)
        self._planned = {point: len(keys) for point, keys in members.items()}
        self._missing = {point: set(keys) for point, keys in members.items()}
        self._point_of = {key: point for point, keys in members.items() for key in keys}
        self._done_at: dict[PointId, int] = {}
        self._sent: dict[PointId, int] = {}
        """Units that a point missed when its row was last given."""

    def done(self, key: str, seq: int) -> None:
        point = self._point_of.get(key)
        if point is None:
            return
        again = key not in self._missing[point]
        self._missing[point].discard(key)
        self._done_at[point] = seq
        if again and point in self._sent:
            # Of a unit that came back twice the last result counts: the row that was given holds the other one.
            self._emit(point)
        for point in list(self._waiting):
            if self._missing[point]:
                return
            self._emit(point)

    def close(self) -> None:
        """End of a session: what has any new result gets a row, one more step is kept for the tables.

        A point that is not whole yet gets another row when it is: the later one counts.
        """
        for point in list(self._waiting):
            if len(self._missing[point]) < self._sent.get(point, self._planned[point]):
                self._emit(point)
        self.step += 1

    def _emit(self, point: PointId) -> None:
        self.step = max(self._done_at[point], self.step + 1)
        self.emitted.append((self.step, point))
        self._sent[point] = len(self._missing[point])
        if not self._missing[point] and point in self._waiting:
            self._waiting.remove(point)
