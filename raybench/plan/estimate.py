"""What a run will take, before anything is taken: makespan, GPU-hours and cost of every target. Pure.

Lengths of answers come from earlier ledgers, question by question, else from the eval's own table; speeds from earlier
ledgers' load points, else from the simulated engine's timing. Without any speed of a target there is no estimate of it,
and it is said what would give one: a guess would only look like knowledge.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from raybench.config.schema import RunConfig, TargetConfig, engine_of
from raybench.evals import eval_of
from raybench.ledger.view import Done, RunView
from raybench.plan.dispatch import Dispatcher
from raybench.plan.forecast import Forecast, Speed
from raybench.plan.order import longest_first
from raybench.records import AnyUnit, CheckUnit, EvalUnit, OneBatchLoad, PerfMeasurement, PerfUnit, Timed

CHECK_S = 10.0
"""One preflight check, where no earlier ledger says."""
WARM_UP_PASSES = 2
"""Passes before the measured one, where no earlier ledger says: two that agree end the warm-up."""


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier ledgers say. Targets are looked up by name."""

    question_tokens: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    """Mean answer by (eval, question)."""
    eval_tokens: Mapping[str, float] = field(default_factory=dict[str, float])
    """Mean answer by eval."""
    token_s: Mapping[str, Mapping[int, float]] = field(default_factory=dict[str, Mapping[int, float]])
    """By target: time per decode step by batch size."""
    startup_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """By target: time of a start."""
    unit_s: Mapping[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])
    """Duration by (target, sweep, load) of a point, and by (target, check, "") of a check."""


@dataclass(frozen=True, slots=True)
class TargetEstimate:
    """One target."""

    target: str
    makespan_s: float
    """From the start of the run until the target's last unit has ended."""
    gpu_hours: float
    """Time of all its nodes with an engine up or starting, times their GPUs."""
    cost: float | None
    """At the configuration's price; None without one."""

    @property
    def numbers(self) -> dict[str, float]:
        """For the ledger."""
        found = {"makespan_s": self.makespan_s, "gpu_hours": self.gpu_hours}
        return found if self.cost is None else found | {"cost": self.cost}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The whole run."""

    makespan_s: float | None
    """Until the last target is done; None where a target's speed is not known."""
    targets: tuple[TargetEstimate, ...]
    unknown: tuple[str, ...]
    """Targets of whose speed nothing is known."""


def known_from(views: Sequence[RunView]) -> Known:
    """What the ledgers say together; where two speak of the same, the later one counts for speeds."""
    answers: dict[tuple[str, str], list[float]] = {}
    steps: dict[str, dict[int, list[float]]] = {}
    starts: dict[str, list[float]] = {}
    units: dict[tuple[str, str, str], list[float]] = {}
    for view in views:
        for sample in view.samples.values():
            if sample.output_tokens and sample.status == "ok":
                answers.setdefault((sample.eval, sample.question), []).append(float(sample.output_tokens))
        for done in view.done.values():
            _learn(done, steps, units, _scale(view, done))
        for facts in view.engines.values():
            # One that was taken over says nothing of how long a start takes.
            phases = facts.startup if facts.adopted_from is None else ()
            starts.setdefault(facts.target, []).extend(one.duration_s for one in phases if one.name == "total")
        for checked in view.checks:
            place = (checked.measurement.target, checked.measurement.check, "")
            units.setdefault(place, []).append(checked.measurement.duration_s)
    evals: dict[str, list[float]] = {}
    for (name, _), tokens in answers.items():
        evals.setdefault(name, []).append(fmean(tokens))
    return Known(
        {place: fmean(tokens) for place, tokens in answers.items()},
        {name: fmean(means) for name, means in evals.items()},
        {target: {size: fmean(found) for size, found in table.items()} for target, table in steps.items()},
        {target: fmean(found) for target, found in starts.items() if found},
        {place: fmean(found) for place, found in units.items()},
    )


def _scale(view: RunView, done: Done) -> float:
    facts = view.engines.get(done.start)
    return facts.time_scale if facts else 1.0


def _learn(
    done: Done, steps: dict[str, dict[int, list[float]]], units: dict[tuple[str, str, str], list[float]], scale: float
) -> None:
    unit, measurement = done.unit, done.measurement
    if not isinstance(unit, Timed):
        return
    units.setdefault(_point(unit), []).append(measurement.duration_s)
    if isinstance(unit, PerfUnit) and isinstance(measurement, PerfMeasurement):
        whole = measurement.measured
        if whole.last_token_s is not None and whole.last_ttft_s is not None:
            step_s = (whole.last_token_s - whole.last_ttft_s) / (unit.load.output_tokens - 1) / scale
            if step_s > 0:
                steps.setdefault(unit.target, {}).setdefault(unit.load.batch_size, []).append(step_s)


def _point(unit: Timed) -> tuple[str, str, str]:
    return unit.target, unit.sweep, unit.load.model_dump_json()


def expected_tokens(config: RunConfig, units: Iterable[AnyUnit], known: Known) -> dict[str, float]:
    """Expected length of every answer by its sample's key."""
    evals = {settings.name: settings for settings in config.evals}
    result: dict[str, float] = {}
    for unit in units:
        if not isinstance(unit, EvalUnit):
            continue
        simulated = _simulated_tokens(config, unit)
        table = simulated or known.eval_tokens.get(unit.eval) or _table_tokens(evals[unit.eval].name, config)
        for sample in unit.samples:
            tokens = simulated or known.question_tokens.get((unit.eval, sample.question)) or table
            result[sample.key] = min(tokens, float(unit.sampling.max_tokens))
    return result


def _simulated_tokens(config: RunConfig, unit: EvalUnit) -> float | None:
    target = next((t for t in config.targets if t.name == unit.target), None)
    timing = engine_of(config, target).simulated if target is not None else None
    return None if timing is None else float(timing.reply_tokens.get(unit.eval, 64))


def _table_tokens(name: str, config: RunConfig) -> float:
    settings = next(one for one in config.evals if one.name == name)
    return float(eval_of(settings).typical_tokens)


def expected_lengths(config: RunConfig, units: Iterable[AnyUnit], known: Known) -> dict[str, float]:
    """For `longest_first`: of a block its longest expected answer, of a point its duration, as far as it is known."""
    every = tuple(units)
    tokens = expected_tokens(config, every, known)
    result: dict[str, float] = {}
    for unit in every:
        if isinstance(unit, EvalUnit):
            result[unit.key] = max((tokens[sample.key] for sample in unit.samples), default=0.0)
        elif isinstance(unit, Timed) and (seconds := known.unit_s.get(_point(unit))) is not None:
            result[unit.key] = seconds
    return result


def estimate(config: RunConfig, units: Iterable[AnyUnit], slots: Sequence[tuple[str, ...]], known: Known) -> Estimate:
    """Play the units on nodes for these slots (targets of each). Units that searches may ask for are not among them."""
    speeds = {target.name: speed for target in config.targets if (speed := _speed(config, target, known)) is not None}
    unknown = tuple(target.name for target in config.targets if target.name not in speeds)
    ready = [tuple(name for name in slot if name in speeds) for slot in slots]
    ready = [slot for slot in ready if slot]
    every = [unit for unit in units if unit.target in speeds]
    seconds = {u.key: _seconds(u, speeds[u.target], known) for u in every if not isinstance(u, EvalUnit)}
    ordered = longest_first(every, expected_lengths(config, every, known))
    tokens = expected_tokens(config, every, known)
    played = Forecast(Dispatcher(ordered, dict(enumerate(ready))), ready, speeds, tokens, seconds).run()
    targets = tuple(_of_target(target, played) for target in config.targets if target.name in speeds)
    makespan_s = max((one.makespan_s for one in targets), default=0.0)
    return Estimate(None if unknown else makespan_s, targets, unknown)


def _of_target(target: TargetConfig, played: Forecast) -> TargetEstimate:
    gpu_hours = played.engine_s.get(target.name, 0.0) / 3600 * target.gpus_per_node
    price = target.price_per_gpu_hour
    cost = None if price is None else price * gpu_hours
    return TargetEstimate(target.name, played.ends_s.get(target.name, 0.0), gpu_hours, cost)


def _speed(config: RunConfig, target: TargetConfig, known: Known) -> Speed | None:
    timing = engine_of(config, target).simulated
    if timing is not None:
        table = {size: ms / 1000 / timing.time_scale for size, ms in timing.itl_ms.items()}
        prefill = max(timing.prefill_tok_per_s.values()) * timing.time_scale
        return Speed(table, timing.startup_s / timing.time_scale, prefill)
    table = known.token_s.get(target.name)
    return Speed(table, known.startup_s.get(target.name, 0.0)) if table else None


def _seconds(unit: AnyUnit, speed: Speed, known: Known) -> float:
    if isinstance(unit, CheckUnit):
        return known.unit_s.get((unit.target, unit.check, ""), CHECK_S)
    if not isinstance(unit, Timed):
        return 0.0
    if (seconds := known.unit_s.get(_point(unit))) is not None:
        return seconds
    load = unit.load
    if isinstance(load, OneBatchLoad):
        one_s = load.output_tokens * speed.per_token_s(load.batch_size)
        one_s += load.batch_size * load.input_tokens / speed.prefill_tok_per_s
        return (1 + WARM_UP_PASSES) * one_s
    return min(unit.timeout_s, getattr(load, "duration_s", None) or unit.timeout_s)
