"""Watches the searches of a run: probes that ended in, the next probes out. A pure state machine beside the dispatcher.

The first probe stands in the plan. Every later one is made here, from the rule and from what came back, and stands in
the record of the decision that asks for it: a resumed run finds it there and goes on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from raybench.ledger.bodies import SEARCH_END, SEARCH_PROBE, Decision
from raybench.ledger.view import RunView
from raybench.plan.keys import number_of, probe_key
from raybench.plan.search import MAX_DOUBLINGS, Answer, Step, Tried, judge, next_step
from raybench.plan.serving import SLO_SEARCH
from raybench.records import LoadMeasurement, LoadUnit, Plan, Probe, RuleSpec
from raybench.records.loads import ClosedLoad, OpenLoad


@dataclass(slots=True)
class _Search:
    rule: RuleSpec
    first: LoadUnit
    units: dict[str, LoadUnit] = field(default_factory=dict[str, LoadUnit])
    """Probes that were asked for, by key, in their order."""
    results: dict[str, LoadMeasurement] = field(default_factory=dict[str, LoadMeasurement])
    ended: bool = False

    @property
    def is_due(self) -> bool:
        """True if every probe has ended and the answer is not known."""
        return not self.ended and self.units.keys() == self.results.keys()


class Searches:
    """The state machine. One call at a time."""

    def __init__(self, plan: Plan, view: RunView | None = None) -> None:
        """`view` = the ledger of earlier sessions."""
        self._searches: list[_Search] = []
        for rule in plan.rules:
            if rule.kind == SLO_SEARCH and rule.probe is not None:
                self._searches.append(_Search(rule, rule.probe, {rule.probe.key: rule.probe}))
        for decision in () if view is None else view.decisions:
            for search in self._of(decision.target, decision.sweep):
                search.units |= {unit.key: unit for unit in decision.added}
                search.ended = search.ended or decision.what == SEARCH_END
        for key, done in ({} if view is None else view.done).items():
            self._keep(key, done.measurement)

    @property
    def is_due(self) -> bool:
        """True if a search can go on at once: an earlier session ended between a probe and what follows from it."""
        return any(search.is_due for search in self._searches)

    def due(self) -> list[Decision]:
        """What the probes of earlier sessions decide."""
        return [_decide(search) for search in self._searches if search.is_due]

    def done(self, key: str, measurement: object) -> list[Decision]:
        """A unit came back; returns what is decided now."""
        self._keep(key, measurement)
        return [_decide(search) for search in self._searches if key in search.units and search.is_due]

    def _of(self, target: str | None, sweep: str | None) -> Iterable[_Search]:
        return (s for s in self._searches if (s.first.target, s.first.sweep) == (target, sweep))

    def _keep(self, key: str, measurement: object) -> None:
        for search in self._searches:
            if key in search.units and isinstance(measurement, LoadMeasurement):
                search.results[key] = measurement


def tried_of(units: Iterable[LoadUnit], results: dict[str, LoadMeasurement], rule: RuleSpec) -> list[Tried]:
    """The probes of a search that came back, judged, in the order in which they were made."""
    found: list[Tried] = []
    for unit in units:
        if unit.key in results and unit.probe is not None:
            doublings = _doublings(rule, unit)
            result, reason = judge(results[unit.key], rule.parameters, is_longest=doublings >= MAX_DOUBLINGS)
            found.append(Tried(value_of(unit), unit.probe.role, doublings, result, reason, unit.probe.again))
    return found


def value_of(unit: LoadUnit) -> float:
    """What a search varies: the rate of an open load, the users of a closed one."""
    return unit.load.rate_per_s if isinstance(unit.load, OpenLoad) else float(getattr(unit.load, "concurrency", 0))


def _decide(search: _Search) -> Decision:
    tried = tried_of(search.units.values(), search.results, search.rule)
    step = next_step(search.rule.parameters, tried)
    last = tried[-1]
    numbers = {"value": last.value, "held": float(last.result == "held"), "num_probes": float(len(tried))}
    why = f"{last.value:g} {last.result} ({last.reason})"
    if isinstance(step, Step):
        unit = _probe(search, step)
        search.units[unit.key] = unit
        what = f"{step.role}, again with other arrivals" if step.again else step.role
        return Decision(
            what=SEARCH_PROBE, target=search.first.target, sweep=search.first.sweep, rule=search.rule.kind,
            reason=f"{why}; next {step.value:g} ({what})", numbers=numbers | {"next": step.value}, added=(unit,),
        )  # fmt: skip
    search.ended = True
    return Decision(
        what=SEARCH_END, target=search.first.target, sweep=search.first.sweep, rule=search.rule.kind,
        reason=f"{why}; {step.reason}", numbers=numbers | _answer_numbers(step),
    )  # fmt: skip


def _answer_numbers(answer: Answer) -> dict[str, float]:
    found = {"found": answer.value, "broke_at": answer.broke_at}
    return {name: value for name, value in found.items() if value is not None}


def _probe(search: _Search, step: Step) -> LoadUnit:
    """The next probe. Bracketing and bisecting probes have their arrivals in common; a confirmation, and what stands
    in place of a probe that said nothing, has its own."""
    first = search.first
    arrivals = first.arrival_seed
    if step.role == "confirm":
        arrivals = number_of([arrivals, "confirm", step.value])
    if step.again:
        arrivals = number_of([arrivals, "again", step.value])
    load = _load(search, step)
    name = [step.role, *(["again"] if step.again else []), step.doublings]
    unit = first.model_copy(
        update={
            "load": load,
            "arrival_seed": arrivals,
            "prompt_seed": number_of([first.prompt_seed, *name, load.model_dump(mode="json")]),
            "probe": Probe(number=len(search.units), role=step.role, again=step.again),
            "order": len(search.units),
        }
    )
    return unit.model_copy(update={"key": probe_key(first, unit)})


def _load(search: _Search, step: Step) -> OpenLoad | ClosedLoad:
    first = search.first.load
    if isinstance(first, OpenLoad):
        longer_s = min(first.duration_s * 2**step.doublings, search.rule.parameters["max_duration_s"])
        return first.model_copy(update={"rate_per_s": step.value, "duration_s": longer_s})
    if not isinstance(first, ClosedLoad):
        raise TypeError("a search varies open and closed loads only")
    return first.model_copy(update={"concurrency": int(step.value), "turnovers": first.turnovers * 2**step.doublings})


def _doublings(rule: RuleSpec, unit: LoadUnit) -> int:
    """How often a probe was made longer; one that cannot be made longer counts as made so often enough."""
    first = None if rule.probe is None else rule.probe.load
    if isinstance(first, OpenLoad) and isinstance(unit.load, OpenLoad):
        if unit.load.duration_s >= rule.parameters["max_duration_s"]:
            return MAX_DOUBLINGS
        return round(unit.load.duration_s / first.duration_s).bit_length() - 1
    if isinstance(first, ClosedLoad) and isinstance(unit.load, ClosedLoad):
        return round(unit.load.turnovers / first.turnovers).bit_length() - 1
    return 0
