"""How far a run is, from its ledger alone: record after record in, a `RunStatus` out. Pure.

The driver feeds it what it writes and shows the outcome while the run goes on; `raybench status` feeds it what it reads
from a run folder. It keeps counts and no replies, so that a record costs the same whether it is the first or the last.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import JsonValue

from raybench.ledger.bodies import Decision, PlanBody, RunBody
from raybench.load.words import point_words
from raybench.records import (
    CheckUnit,
    EngineFacts,
    EvalUnit,
    LedgerRecord,
    LoadUnit,
    NodeFacts,
    PerfUnit,
    SampleSpec,
    Timed,
)

RATE_WINDOW_S = 300.0
"""Samples per second are those of this time; long replies make a shorter one jump."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node now."""

    node: str
    accelerator: str
    phase: str
    """idle, starting, ready, perf, eval, check, suspect (it does not answer) or lost."""
    about: str
    """Target and what is done for it; why it was lost."""
    since_s: float
    """How long it has been so."""
    num_units_done: int


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """One sweep or one eval on one target."""

    target: str
    name: str
    kind: str
    """perf or eval."""
    num_units: int
    num_units_done: int
    num_units_dropped: int
    """Not needed any more, by a rule of the plan."""
    num_samples: int
    """0 for perf."""
    num_samples_done: int


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The whole run now."""

    name: str
    run_id: str
    phase: str
    """starting, running, ended or interrupted."""
    session: int
    session_s: float
    """Age of the running session, or how long the last one took."""
    quiet_s: float
    """Time since the last record; 0 when the session has ended."""
    nodes: tuple[NodeStatus, ...]
    work: tuple[WorkStatus, ...]
    samples_per_s: float | None
    """Over the last minutes; None without any."""
    remaining_s: float | None
    """Estimate; None while nothing of a kind that is still to be done has been done yet."""
    num_failed: int
    """Attempts of this session that did not end well; they are tried again where the plan allows it."""
    num_lost: int
    """Nodes lost in this session."""


@dataclass(slots=True)
class _Node:
    accelerator: str
    since: float
    phase: str = "idle"
    about: str = ""
    target: str | None = None
    num_done: int = 0
    running: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Phase and words of everything that it was given and that has not ended, by the unit's key."""
    at: float = 0.0
    """Up to when its time was shared out."""
    shares: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """(share of the node's time, time) of everything that runs, so far."""


@dataclass(slots=True)
class _Work:
    units: dict[str, Timed | EvalUnit] = field(default_factory=dict[str, Timed | EvalUnit])
    samples: set[str] = field(default_factory=set[str])
    samples_done: set[str] = field(default_factory=set[str])
    done: set[str] = field(default_factory=set[str])
    dropped: set[str] = field(default_factory=set[str])
    busy_s: float = 0.0
    """Time that nodes spent on what is done; blocks that ran side by side have shared it."""


Place = tuple[str, str]
"""(target, sweep or eval)."""


class Progress:
    """The state. One `take` for every record of a ledger, in order."""

    def __init__(self, records: Iterable[LedgerRecord] = ()) -> None:
        self._name = self._run_id = ""
        self._phase = "starting"
        self._session = 0
        self._session_t = self._last_t = 0.0
        self._nodes: dict[str, _Node] = {}
        self._work: dict[Place, _Work] = {}
        self._places: dict[str, Place] = {}
        self._checks: dict[str, CheckUnit] = {}
        self._served: dict[str, set[str]] = {}
        """Nodes that have had an engine of the target in this session."""
        self._sample_times: deque[float] = deque()
        self._num_failed = self._num_lost = 0
        for record in records:
            self.take(record)

    def take(self, record: LedgerRecord) -> None:
        """Take one record in. Raises ValueError for a body that does not fit its kind."""
        self._last_t = record.t
        node = self._nodes.get(record.node or "")
        self._share_out(node, record.t)
        match record.kind:
            case "run":
                self._begin(RunBody.model_validate(record.body), record.t)
            case "plan":
                self._plan(PlanBody.model_validate(record.body))
            case "node":
                facts = NodeFacts.model_validate(record.body)
                self._nodes[facts.node] = _Node(facts.accelerator, record.t)
                self._phase = "running"
            case "engine" if node is not None:
                facts = EngineFacts.model_validate(record.body)
                self._served.setdefault(facts.target, set()).add(record.node or "")
                _now(node, "ready", facts.target, record.t)
                node.target = facts.target
            case "decision":
                self._decide(Decision.model_validate(record.body), node, record.t)
            case "unit_started" if node is not None:
                self._begin_unit(node, record.key or "", record.t)
            case "unit_done" | "unit_failed":
                self._end(record, node)
            case "sample":
                self._sample(record)
            case _:
                pass

    def _begin(self, body: RunBody, t: float) -> None:
        """A new session: nothing of the one before is up any more."""
        self._name, self._run_id, self._session, self._session_t = body.config.name, body.run_id, body.session, t
        self._phase = "starting"
        self._nodes.clear()
        self._served.clear()
        self._sample_times.clear()
        self._num_failed = self._num_lost = 0

    def _plan(self, body: PlanBody) -> None:
        for unit in body.plan.units:
            if isinstance(unit, CheckUnit):
                self._checks[unit.key] = unit
            else:
                self._plan_unit(unit)

    def _plan_unit(self, unit: Timed | EvalUnit) -> None:
        place = (unit.target, unit.eval if isinstance(unit, EvalUnit) else unit.sweep)
        self._places[unit.key] = place
        work = self._work.setdefault(place, _Work())
        work.units[unit.key] = unit
        if isinstance(unit, EvalUnit):
            work.samples.update(sample.key for sample in unit.samples)

    def _doing(self, key: str) -> tuple[str, str]:
        """Phase and words of a node that runs the unit."""
        if (check := self._checks.get(key)) is not None:
            return "check", f"{check.target} {check.check}"
        place = self._places.get(key)
        unit = self._work[place].units[key] if place is not None else None
        match unit:
            case EvalUnit():
                return "eval", f"{unit.target} {unit.eval} block {unit.block + 1}"
            case PerfUnit():
                return "perf", f"{unit.target} {unit.sweep} batch {unit.load.batch_size}, repeat {unit.repeat + 1}"
            case LoadUnit():
                return "perf", f"{unit.target} {unit.sweep} {point_words(unit.load)}, repeat {unit.repeat + 1}"
            case None:
                return "perf", key

    def _decide(self, body: Decision, node: _Node | None, t: float) -> None:
        for unit in body.added:
            self._plan_unit(unit)
        for key in body.dropped:
            if (place := self._places.get(key)) is not None:
                self._work[place].dropped.add(key)
        match body.what:
            case "end" | "interrupted":
                self._phase = "ended" if body.what == "end" else "interrupted"
            case "start_engine" if node is not None:
                _now(node, "starting", f"{body.target} ({body.reason})", t)
            case "stop_engine" | "engine_start_failed" if node is not None:
                _now(node, "idle", f"{body.target} did not start" if body.what == "engine_start_failed" else "", t)
                node.target = None
            case "node_suspect" if node is not None:
                _now(node, "suspect", body.reason, t)
            case "node_well" if node is not None:
                _now(node, *next(iter(node.running.values()), _idle(node)), t)
            case "node_lost" if node is not None:
                self._num_lost += 1
                _now(node, "lost", body.reason, t)
            case _:
                pass

    def _end(self, record: LedgerRecord, node: _Node | None) -> None:
        share = 1.0
        if node is not None and node.phase != "lost":
            node.running.pop(record.key or "", None)
            share_s, whole_s = node.shares.pop(record.key or "", (0.0, 0.0))
            share = share_s / whole_s if whole_s else 1.0
            if node.phase != "suspect":
                _now(node, *next(iter(node.running.values()), _idle(node)), record.t)
            node.num_done += record.kind == "unit_done"
        place = self._places.get(record.key or "")
        if record.kind == "unit_failed":
            self._num_failed += record.body.get("given_up") is not True
        elif place is not None:
            work = self._work[place]
            work.done.add(record.key or "")
            duration_s = record.body.get("duration_s")
            work.busy_s += share * float(duration_s) if isinstance(duration_s, int | float) else 0.0

    def _begin_unit(self, node: _Node, key: str, t: float) -> None:
        node.running[key] = doing = self._doing(key)
        if len(node.running) == 1 or doing[0] == "eval":
            _now(node, *doing, t)  # a point that waits behind another has not begun

    def _share_out(self, node: _Node | None, t: float) -> None:
        """Share the node's time since the last look evenly among what runs there."""
        if node is None:
            return
        passed_s = max(t - node.at, 0.0)
        for key in node.running:
            share_s, whole_s = node.shares.get(key, (0.0, 0.0))
            node.shares[key] = share_s + passed_s / len(node.running), whole_s + passed_s
        node.at = t

    def _sample(self, record: LedgerRecord) -> None:
        place = (_text(record.body.get("target")), _text(record.body.get("eval")))
        if (work := self._work.get(place)) is not None and record.key in work.samples:
            work.samples_done.add(record.key)
        self._sample_times.append(record.t)
        while self._sample_times[0] < record.t - RATE_WINDOW_S:
            self._sample_times.popleft()

    # ---------------------------------------------------------------------------------------------------------- outcome

    def status(self, now: float | None = None) -> RunStatus:
        """The run at `now`, seconds since 1970 on the driver's clock; None = at its last record."""
        over = self._phase in ("ended", "interrupted")
        t = self._last_t if now is None or over else max(now, self._last_t)
        work = tuple(_work_status(place, work) for place, work in self._work.items())
        return RunStatus(
            name=self._name, run_id=self._run_id, phase=self._phase, session=self._session,
            session_s=t - self._session_t, quiet_s=t - self._last_t,
            nodes=tuple(_node_status(name, node, t) for name, node in self._nodes.items()), work=work,
            samples_per_s=None if over else self._samples_per_s(t), remaining_s=None if over else self._remaining_s(),
            num_failed=self._num_failed, num_lost=self._num_lost,
        )  # fmt: skip

    def _samples_per_s(self, t: float) -> float | None:
        times = [at for at in self._sample_times if at >= t - RATE_WINDOW_S]
        return len(times) / (t - times[0]) if len(times) > 1 and t > times[0] else None

    def _remaining_s(self) -> float | None:
        """Work of each target over its nodes. Targets that share nodes take turns, others run side by side."""
        groups: list[tuple[set[str], float]] = []
        for target in dict.fromkeys(target for target, _ in self._work):
            left_s = [_left_s(work) for (of, _), work in self._work.items() if of == target]
            known = [seconds for seconds in left_s if seconds is not None]
            if len(known) < len(left_s):
                return None
            alive = {n for n in self._served.get(target, ()) if self._nodes[n].phase != "lost"}
            if sum(known) and not alive:
                return None
            groups.append((alive, sum(known)))
        merged: list[tuple[set[str], float]] = []
        for nodes, seconds in groups:
            sharing = [other for other in merged if other[0] & nodes]
            merged = [other for other in merged if not other[0] & nodes]
            merged.append((nodes.union(*(other[0] for other in sharing)), seconds + sum(other[1] for other in sharing)))
        return max((seconds / len(nodes) for nodes, seconds in merged if nodes), default=0.0)


def _idle(node: _Node) -> tuple[str, str]:
    """Phase and words of a node on which nothing runs."""
    return "ready" if node.target else "idle", node.target or ""


def _now(node: _Node, phase: str, about: str, t: float) -> None:
    node.phase, node.about, node.since = phase, about, t


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _left_s(work: _Work) -> float | None:
    """Node time that is still needed, by what was needed so far; None while nothing was done."""
    missing = work.units.keys() - work.done - work.dropped
    if not missing:
        return 0.0
    if not work.done or not work.busy_s:
        return None
    if work.samples:
        left = {s.key for key in missing for s in _samples(work.units[key])} - work.samples_done
        done = sum(len(_samples(work.units[key])) for key in work.done)
        return work.busy_s / max(done, 1) * len(left)
    return work.busy_s / len(work.done) * len(missing)


def _samples(unit: Timed | EvalUnit) -> tuple[SampleSpec, ...]:
    return unit.samples if isinstance(unit, EvalUnit) else ()


def _work_status(place: Place, work: _Work) -> WorkStatus:
    dropped = work.dropped - work.done
    return WorkStatus(
        target=place[0], name=place[1], kind="eval" if work.samples else "perf", num_units=len(work.units),
        num_units_done=len(work.done), num_units_dropped=len(dropped), num_samples=len(work.samples),
        num_samples_done=len(work.samples_done),
    )  # fmt: skip


def _node_status(name: str, node: _Node, t: float) -> NodeStatus:
    return NodeStatus(
        name, node.accelerator, node.phase, node.about, max(t - node.since, 0.0), num_units_done=node.num_done
    )
