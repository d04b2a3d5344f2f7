"""What the end of a unit's attempt at its node means: pure."""

from raybench.driver.occurrence import Entry, Occurrence
from raybench.node.session import UnitResult
from raybench.plan.events import RunUnit, UnitDone, UnitFailed
from raybench.records import CheckMeasurement, CheckUnit, Failure


def ended(action: RunUnit, result: UnitResult, start: str | None) -> Occurrence:
    """The event and the record of a result or of a failure."""
    key, attempt, node = action.unit.key, action.attempt, action.node
    if result.measurement is not None:
        entry = Entry("unit_done", result.measurement, key, attempt, result.rows)
        if isinstance(action.unit, CheckUnit) and isinstance(result.measurement, CheckMeasurement):
            return _checked(action, action.unit, result.measurement, entry, start)
        return Occurrence(UnitDone(node, key, attempt), (entry,), node, start)
    failure = result.failure or Failure(cause="bug", message="the node gave neither result nor failure")
    entry = Entry("unit_failed", failure, key, attempt)
    line = f"{node}: {key} failed ({failure.cause}): {failure.message.splitlines()[0]}"
    return Occurrence(UnitFailed(node, key, attempt, failure), (entry,), node, start, line)


def _checked(action: RunUnit, unit: CheckUnit, found: CheckMeasurement, entry: Entry, start: str | None) -> Occurrence:
    """A check has ended; only one that says stop, and may, keeps the target's evals from starting."""
    stop = f"preflight: {found.words}" if found.result == "stop" and unit.stops else None
    event = UnitDone(action.node, unit.key, action.attempt, stop)
    line = f"{action.node} {unit.target}: preflight {unit.check}: {found.result}: {found.words}"
    return Occurrence(event, (entry,), action.node, start, line)
