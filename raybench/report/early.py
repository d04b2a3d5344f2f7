"""Findings about a performance unit as soon as it has come back, instead of after hours. Pure.

Only what the unit shows by itself: findings that compare units (noise, outliers, collapse) wait for the report, and
those of evals come from the plan's rules and the preflight while they run.
"""

from collections.abc import Iterable

from raybench.ledger.bodies import PlanBody
from raybench.ledger.view import RunView, add, fold
from raybench.records import LedgerRecord, PerfUnit, Plan
from raybench.report.words import TITLES
from raybench.validity.perf import perf_findings

_MARKS = {"red": "RED", "warn": "WARNING"}


class EarlyFindings:
    """Keeps what is needed to judge one unit: the configuration, the plan, nodes and engines."""

    def __init__(self, records: Iterable[LedgerRecord] = ()) -> None:
        self._view: RunView | None = None
        self._units: dict[str, PerfUnit] = {}
        for record in records:
            if record.kind != "unit_done":
                self.take(record)

    def take(self, record: LedgerRecord) -> list[str]:
        """Take one record in; returns a line for every red finding and warning about it. Raises ValueError."""
        if record.kind == "run" and self._view is None:
            self._view = fold([record])
        elif self._view is None:
            return []
        elif record.kind == "plan":
            body = PlanBody.model_validate(record.body)
            self._units = {unit.key: unit for unit in body.plan.units if isinstance(unit, PerfUnit)}
        elif record.kind in ("run", "node", "engine"):
            add(self._view, record)
        elif record.kind == "unit_done" and (unit := self._units.get(record.key or "")) is not None:
            return self._judge(self._view, unit, record)
        return []

    def _judge(self, view: RunView, unit: PerfUnit, record: LedgerRecord) -> list[str]:
        # One unit is the whole plan for a moment: a view of thousands would be gone through for every unit.
        view.plan = PlanBody(digest="", plan=Plan(units=(unit,)))
        add(view, record)
        found = [finding for finding in perf_findings(view) if finding.severity in _MARKS]
        view.done.clear()
        about = f"{unit.target} {unit.sweep} batch {unit.load.batch_size}, repeat {unit.repeat + 1}"
        return [f"{_MARKS[f.severity]} {TITLES.get(f.code, f.code)}: {about}" for f in found]
