"""Watches the evals of a run: samples in, rulings out. A pure state machine beside the dispatcher.

It knows which samples are in flight, so that rates are about started samples (`raybench.stats.rates`). Where questions
are asked more than once, rates are about the first answers: those are asked in the order of the exam, the others with
the longest first, which are cut more often than the rest. It keeps counts, so that a sample costs the same whether it
is the first or the twenty-thousandth. Every (target, eval) is ruled upon once at most; what an earlier session ruled is
taken from its records.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from raybench.config.schema import RunConfig
from raybench.evals import eval_of
from raybench.evals.base import Eval
from raybench.evals.grade import outcome
from raybench.evals.signs import signs
from raybench.ledger.bodies import STOP_EVAL, STOP_REPEATS, Decision
from raybench.ledger.view import RunView
from raybench.plan.rules import Item, Returned, Ruling, rule_named
from raybench.records import EvalUnit, Outcome, Plan, RuleSpec, SampleRecord, Sign
from raybench.stats.gate import NOTHING, Holding
from raybench.stats.rates import SIGNS, Rate, rate

Place = tuple[str, str]
"""(target, eval)."""


@dataclass(slots=True)
class _Flight:
    num_samples: int
    concurrency: int
    first: bool
    """True: its samples ask their questions for the first time."""
    num_ended: int = 0

    @property
    def num_in_flight(self) -> int:
        """The client keeps `concurrency` requests open: those behind them were not sent yet."""
        return min(self.num_samples, self.num_ended + self.concurrency) - self.num_ended


@dataclass(slots=True)
class _Watched:
    evaluation: Eval
    holding: Holding
    rules: list[RuleSpec] = field(default_factory=list[RuleSpec])
    units: dict[str, int] = field(default_factory=dict[str, int])
    """Stage by unit key."""
    stages: dict[Item, int] = field(default_factory=dict[Item, int])
    outcomes: dict[Item, Outcome] = field(default_factory=dict[Item, Outcome])
    counts: dict[Sign, int] = field(default_factory=lambda: dict[Sign, int].fromkeys(SIGNS, 0))
    """Signs of all samples that ended."""
    first_counts: dict[Sign, int] = field(default_factory=lambda: dict[Sign, int].fromkeys(SIGNS, 0))
    """Those of the samples that ask their question for the first time."""
    num_first_ended: int = 0
    flights: dict[str, _Flight] = field(default_factory=dict[str, _Flight])

    def returned(self) -> Returned:
        num_ended = self.num_first_ended
        num_started = num_ended + sum(flight.num_in_flight for flight in self.flights.values() if flight.first)
        found: dict[Sign, Rate] = {sign: rate(self.first_counts[sign], num_ended, num_started) for sign in SIGNS}
        return Returned(found, self.outcomes, self.stages, self.holding, self.counts)


class Watch:
    """The state machine. One call at a time; nothing it is told may be told twice."""

    def __init__(
        self, config: RunConfig, plan: Plan, looks: Mapping[Place, Holding], view: RunView | None = None
    ) -> None:
        """`looks` = what the stages of adaptive evals are held against; `view` = the ledger of earlier sessions.

        Raises PlanError for a rule that is not known.
        """
        self._watched: dict[Place, _Watched] = {}
        evals = {settings.name: settings for settings in config.evals}
        for spec in plan.rules:
            if spec.probe is not None:
                continue  # a search, see `raybench.plan.searches`
            rule_named(spec.kind)
            if spec.eval in evals:
                place = (spec.target, spec.eval)
                fresh = _Watched(eval_of(evals[spec.eval]), looks.get(place, NOTHING))
                self._watched.setdefault(place, fresh).rules.append(spec)
        for unit in plan.units:
            watched = self._watched.get((unit.target, unit.eval)) if isinstance(unit, EvalUnit) else None
            if watched is not None and isinstance(unit, EvalUnit):
                watched.units[unit.key] = unit.stage
                watched.stages |= {(sample.question, sample.repeat): unit.stage for sample in unit.samples}
        for decision in () if view is None else view.decisions:
            if decision.what in (STOP_EVAL, STOP_REPEATS) and decision.target and decision.eval:
                self._watched.pop((decision.target, decision.eval), None)
        for sample in () if view is None else view.samples.values():
            self._count(sample)

    def started(self, unit: EvalUnit) -> None:
        """A node has been given these samples."""
        watched = self._watched.get((unit.target, unit.eval))
        if watched is not None:
            watched.flights[unit.key] = _Flight(
                len(unit.samples), unit.concurrency, all(sample.repeat == 0 for sample in unit.samples)
            )

    def ended(self, key: str) -> None:
        """An attempt at a unit is over: what of it was in flight is not any more."""
        for watched in self._watched.values():
            watched.flights.pop(key, None)

    def sample(self, sample: SampleRecord) -> list[Decision]:
        """A sample ended; returns what is decided now."""
        self._count(sample)
        return self._decide([(sample.target, sample.eval)])

    def due(self) -> list[Decision]:
        """What the samples of earlier sessions decide, where these ended before they could."""
        return self._decide(list(self._watched))

    def _count(self, sample: SampleRecord) -> None:
        watched = self._watched.get((sample.target, sample.eval))
        item = (sample.question, sample.repeat)
        if watched is None or item in watched.outcomes or item not in watched.stages:
            return
        result = outcome(sample, watched.evaluation)
        watched.outcomes[item] = result
        first = sample.repeat == 0
        watched.num_first_ended += first
        for sign in signs(sample, watched.evaluation, result):
            watched.counts[sign] += 1
            watched.first_counts[sign] += first
        if (flight := watched.flights.get(sample.unit)) is not None:
            flight.num_ended = min(flight.num_ended + 1, flight.num_samples)

    def _decide(self, places: Iterable[Place]) -> list[Decision]:
        decided: list[Decision] = []
        for place in places:
            watched = self._watched.get(place)
            if watched is None or not watched.outcomes:
                continue
            returned = watched.returned()
            for spec in watched.rules:
                ruling = rule_named(spec.kind)(spec, returned)
                if ruling is not None:
                    decided.append(_decision(spec, ruling, watched))
                    del self._watched[place]
                    break
        return decided


def _decision(spec: RuleSpec, ruling: Ruling, watched: _Watched) -> Decision:
    dropped = tuple(key for key, stage in watched.units.items() if stage >= ruling.first_dropped_stage)
    return Decision(
        what=ruling.what, target=spec.target, eval=spec.eval, reason=ruling.reason, numbers=ruling.numbers,
        rule=spec.kind, dropped=dropped,
    )  # fmt: skip
