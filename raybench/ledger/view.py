"""A ledger, folded: what was planned, what came back, and on what.

Pure. The last `unit_done` of a key counts, the last record of a sample counts; everything else is history.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from raybench.config.schema import RunConfig
from raybench.errors import LedgerError
from raybench.ledger.bodies import SEARCH_END, STOP_EVAL, STOP_REPEATS, Decision, PlanBody, RunBody
from raybench.ledger.usage import Usage
from raybench.records import (
    AnyMeasurement,
    CheckMeasurement,
    CheckUnit,
    EngineFacts,
    EvalMeasurement,
    EvalUnit,
    Failure,
    LedgerRecord,
    LoadMeasurement,
    LoadUnit,
    Measurement,
    NodeFacts,
    PerfMeasurement,
    PerfUnit,
    RuleSpec,
    SampleRecord,
)
from raybench.records.calibration import Calibration
from raybench.records.units import LOAD_PATHS

_MEASUREMENT: TypeAdapter[AnyMeasurement] = TypeAdapter(Measurement)


@dataclass(frozen=True, slots=True)
class Done:
    """The attempt of a unit that counts."""

    unit: PerfUnit | LoadUnit | EvalUnit
    attempt: int
    node: str
    """Short name of the node that did it."""
    start: str
    """Id of the physical engine start that it ran on: a key of `RunView.engines`."""
    measurement: PerfMeasurement | LoadMeasurement | EvalMeasurement


@dataclass(frozen=True, slots=True)
class Checked:
    """A preflight check that was made. All of them are kept: each speaks of one start of an engine."""

    key: str
    attempt: int
    node: str
    """Short name of the node."""
    start: str
    """Id of the physical engine start that was checked."""
    measurement: CheckMeasurement


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that did not end well."""

    key: str
    attempt: int
    node: str | None
    start: str | None
    failure: Failure


@dataclass(slots=True)
class RunView:
    """Everything that a reader of a ledger needs. Build it with `fold`."""

    run: RunBody
    """The first session's record."""
    sessions: list[RunBody] = field(default_factory=list[RunBody])
    plan: PlanBody | None = None
    nodes: dict[str, NodeFacts] = field(default_factory=dict[str, NodeFacts])
    """By short name."""
    engines: dict[str, EngineFacts] = field(default_factory=dict[str, EngineFacts])
    """By id of the physical start, in the order of the starts."""
    done: dict[str, Done] = field(default_factory=dict[str, Done])
    """By unit key."""
    failed: list[Failed] = field(default_factory=list[Failed])
    """Every failed attempt, in order."""
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    """Highest attempt number by unit key."""
    ended: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Every (key, attempt) that has ended, done or failed."""
    samples: dict[str, SampleRecord] = field(default_factory=dict[str, SampleRecord])
    """By sample key."""
    sample_nodes: dict[str, str] = field(default_factory=dict[str, str])
    """Node that answered, by sample key."""
    sample_starts: dict[str, str] = field(default_factory=dict[str, str])
    """Id of the engine start that answered, by sample key."""
    checks: list[Checked] = field(default_factory=list[Checked])
    """Preflight checks, in the order in which they ended."""
    calibrations: list[Calibration] = field(default_factory=list[Calibration])
    """What the load client's own error was, on every machine and at every number of streams that was measured."""
    decisions: list[Decision] = field(default_factory=list[Decision])
    usage: Usage = field(default_factory=Usage, compare=False)
    """What the nodes did with their time."""
    first_t: float = 0.0
    """Wall clock of the first record, seconds since 1970."""
    last_t: float = 0.0
    """Wall clock of the last record."""
    _units_of: tuple[tuple[PlanBody, int], dict[str, PerfUnit | LoadUnit | EvalUnit]] | None = field(
        default=None, repr=False, compare=False
    )
    """`units` of the plan so far: a report asks for them at every load point."""
    _points_of: tuple[dict[str, PerfUnit | LoadUnit | EvalUnit], dict[tuple[str, str, int], tuple[str, ...]]] | None = (
        field(default=None, repr=False, compare=False)
    )
    """`load_points` of those units: twenty targets with fifty points each are asked for three times."""

    @property
    def config(self) -> RunConfig:
        """Configuration of the last session: baselines and prices may change between sessions, keys may not."""
        return self.sessions[-1].config

    @property
    def units(self) -> dict[str, PerfUnit | LoadUnit | EvalUnit]:
        """All planned units that bring results, by key, in plan order, then those that searches asked for; empty when
        the run ended before its plan was written. Checks are none: which of them are needed is known only when the
        samples are answered.
        """
        if self.plan is None:
            return {}
        known = (self.plan, len(self.decisions))
        if self._units_of is None or self._units_of[0][0] is not known[0] or self._units_of[0][1] != known[1]:
            units = {unit.key: unit for unit in self.plan.plan.units if not isinstance(unit, CheckUnit)}
            units |= {unit.key: unit for decision in self.decisions for unit in decision.added}
            self._units_of = (known, units)
        return self._units_of[1]

    @property
    def load_points(self) -> dict[tuple[str, str, int], tuple[str, ...]]:
        """Keys of the perf units of every (target, sweep, batch size), in plan order."""
        units = self.units
        if self._points_of is None or self._points_of[0] is not units:
            found: dict[tuple[str, str, int], list[str]] = {}
            for key, unit in units.items():
                if isinstance(unit, PerfUnit):
                    found.setdefault((unit.target, unit.sweep, unit.load.batch_size), []).append(key)
            self._points_of = (units, {point: tuple(keys) for point, keys in found.items()})
        return self._points_of[1]

    @property
    def planned_checks(self) -> dict[str, CheckUnit]:
        """All planned checks by key, in plan order."""
        units = () if self.plan is None else self.plan.plan.units
        return {unit.key: unit for unit in units if isinstance(unit, CheckUnit)}

    @property
    def dropped(self) -> dict[str, Decision]:
        """Planned units that a rule of the plan decided not to run, with the decision; not those that ran already."""
        return {key: rule for rule in self.decisions for key in rule.dropped if key not in self.done}

    def ruling(self, target: str, name: str) -> Decision | None:
        """What a rule of the plan decided about an eval on a target; None = nothing."""
        whats = (STOP_EVAL, STOP_REPEATS)
        return next((d for d in self.decisions if d.what in whats and (d.target, d.eval) == (target, name)), None)

    def calibration_of(self, done: Done) -> Calibration | None:
        """The client's own error on the machine of a load, at as many streams or more; None = not measured."""
        unit, found, node = done.unit, done.measurement, self.nodes.get(done.node)
        if not isinstance(unit, LoadUnit) or not isinstance(found, LoadMeasurement) or found.streams is None:
            return None
        if node is None:
            return None
        near = [
            (points[0].streams, -number, one)
            for number, one in enumerate(self.calibrations)
            if (one.host, one.route) == (node.host, LOAD_PATHS[unit.route]) and (points := one.at(found.streams))
        ]
        # The nearest level; of several measurements of it (the client's version changed) the last.
        return min(near, default=(0, 0, None))[2]

    @property
    def open_searches(self) -> tuple[RuleSpec, ...]:
        """Searches of the plan that have come to no end yet."""
        rules = () if self.plan is None else self.plan.plan.rules
        ended = {(one.target, one.sweep) for one in self.decisions if one.what == SEARCH_END}
        return tuple(rule for rule in rules if rule.probe and (rule.target, rule.probe.sweep) not in ended)

    def missing_units(self) -> tuple[str, ...]:
        """Keys of planned units without a result that no rule dropped, in plan order."""
        settled = self.done.keys() | self.dropped.keys()
        return tuple(key for key in self.units if key not in settled)

    def missing_samples(self) -> tuple[str, ...]:
        """Keys of planned samples without a record that no rule dropped, in plan order."""
        dropped = self.dropped
        return tuple(
            sample.key
            for unit in self.units.values()
            if isinstance(unit, EvalUnit) and unit.key not in dropped
            for sample in unit.samples
            if sample.key not in self.samples
        )


def fold(records: Iterable[LedgerRecord]) -> RunView:
    """Fold a ledger's records. Raises LedgerError when a body does not fit its kind."""
    view: RunView | None = None
    for record in records:
        try:
            if view is None:
                first = RunBody.model_validate(record.body)
                view = RunView(run=first, sessions=[first], first_t=record.t)
            else:
                add(view, record)
            view.usage.take(record)
        except ValueError as error:
            raise LedgerError(
                f"ledger record {record.seq} ({record.kind}) does not fit this raybench: {error}"
            ) from error
        view.last_t = record.t
    if view is None:
        raise LedgerError("the ledger is empty")
    return view


def add(view: RunView, record: LedgerRecord) -> None:
    """Take one more record in, but not the first of a ledger. Raises ValueError when its body does not fit its kind."""
    match record.kind:
        case "run":
            view.sessions.append(RunBody.model_validate(record.body))
        case "plan":
            view.plan = PlanBody.model_validate(record.body)
        case "node":
            facts = NodeFacts.model_validate(record.body)
            view.nodes[facts.node] = facts
        case "engine":
            engine = EngineFacts.model_validate(record.body)
            view.engines[engine.start] = engine
        case "sample":
            sample = SampleRecord.model_validate(record.body)
            view.samples[sample.key] = sample
            view.sample_nodes[sample.key] = record.node or ""
            view.sample_starts[sample.key] = record.launch or ""
        case "decision":
            view.decisions.append(Decision.model_validate(record.body))
        case "unit_started" | "unit_done" | "unit_failed":
            _add_unit(view, record)
        case "calibration":
            view.calibrations.append(Calibration.model_validate(record.body))


def _add_unit(view: RunView, record: LedgerRecord) -> None:
    if record.key is None or record.attempt is None:
        raise ValueError("a unit record needs key and attempt")
    view.attempts[record.key] = max(view.attempts.get(record.key, 0), record.attempt)
    if record.kind != "unit_started":
        if (record.key, record.attempt) in view.ended:
            raise ValueError(f"attempt {record.attempt} of unit {record.key} ends twice")
        view.ended.add((record.key, record.attempt))
    if record.kind == "unit_failed":
        failure = Failure.model_validate(record.body)
        view.failed.append(Failed(record.key, record.attempt, record.node, record.launch, failure))
    elif record.kind == "unit_done":
        measurement = _MEASUREMENT.validate_python(record.body)
        if isinstance(measurement, CheckMeasurement):
            place = (record.node or "", record.launch or "")
            view.checks.append(Checked(record.key, record.attempt, *place, measurement))
            return
        unit = view.units.get(record.key)
        if unit is None:
            raise ValueError(f"unit {record.key} is not in the plan")
        view.done[record.key] = Done(unit, record.attempt, record.node or "", record.launch or "", measurement)
