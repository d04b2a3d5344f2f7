"""From a configuration and the evals' rows to a plan with nothing left to default."""

import random
from collections.abc import Iterable, Iterator, Mapping

from pydantic import JsonValue

from raybench.config.evals import EvalConfig
from raybench.config.schema import OneBatchSweep, RunConfig, TargetConfig
from raybench.evals import eval_of
from raybench.evals.base import Rows
from raybench.evals.specs import sample_specs
from raybench.plan.checks import check_units
from raybench.plan.keys import eval_key, order_seed, perf_key, prompt_seed, target_identity
from raybench.plan.serving import Files, load_units, search_rules
from raybench.records import AnyUnit, EvalUnit, OneBatchLoad, PerfUnit, Plan, RuleSpec, SampleSpec


def expand(config: RunConfig, rows: Mapping[str, Rows], files: Files | None = None) -> Plan:
    """All units of all targets; `rows` by the eval's name in the configuration, `files` by the sweep's.

    Raises ConfigError, PlanError, RowsError.
    """
    units: list[AnyUnit] = []
    rules: list[RuleSpec] = []
    for target in config.targets:
        identity = target_identity(config, target)
        for sweep in config.batch_sweeps:
            units.extend(_perf_units(config, target, sweep, identity))
        loads = load_units(config, target, identity, files or Files())
        units.extend(loads)
        rules += search_rules(config, loads)
        blocks = _eval_units(config, target, rows, identity)
        units.extend(check_units(config, target, identity, blocks))
        units.extend(blocks)
        rules += [rule for settings in config.evals for rule in eval_rules(settings, target.name)]
    return Plan(units=tuple(units), rules=tuple(rules))


def _perf_units(
    config: RunConfig, target: TargetConfig, sweep: OneBatchSweep, identity: dict[str, JsonValue]
) -> list[PerfUnit]:
    units: list[PerfUnit] = []
    for launch in range(sweep.launches):
        for repeat in range(sweep.num_repeats(target.nodes)):
            place, again = divmod(repeat, sweep.repeats) if sweep.every_node else (None, repeat)
            sizes = list(sweep.batch_sizes)
            # A fixed order would give every point the same neighbour, and drift would look like an effect of size.
            random.Random(order_seed(config.seed, sweep.name, again, launch)).shuffle(sizes)
            for order, batch_size in enumerate(sizes):
                load = OneBatchLoad(
                    batch_size=batch_size, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens
                )
                seed = prompt_seed(config.seed, sweep.name, load, again, launch)
                key = perf_key(identity | {"sweep": sweep.name}, load, seed, (repeat, launch), sweep.warm_up)
                units.append(
                    PerfUnit(
                        key=key, target=target.name, sweep=sweep.name, load=load, repeat=repeat, launch=launch,
                        order=order, prompt_seed=seed, place=place, warm_up=sweep.warm_up, timeout_s=sweep.timeout_s,
                    )
                )  # fmt: skip
    return units


def _eval_units(
    config: RunConfig, target: TargetConfig, rows: Mapping[str, Rows], identity: dict[str, JsonValue]
) -> list[EvalUnit]:
    units: list[EvalUnit] = []
    for settings in config.evals:
        samples = sample_specs(eval_of(settings), rows[settings.name], settings, config.seed, identity)
        for block, (stage, part) in enumerate(_blocks(samples, settings)):
            units.append(
                EvalUnit(
                    key=eval_key(target.name, part), target=target.name, eval=settings.name, block=block, stage=stage,
                    samples=part, sampling=settings.sampling, concurrency=settings.concurrency,
                    timeout_s=settings.timeout_s, route=settings.route,
                )
            )  # fmt: skip
    return units


def _blocks(samples: Iterable[SampleSpec], settings: EvalConfig) -> Iterator[tuple[int, tuple[SampleSpec, ...]]]:
    """Blocks with their stages. All questions are asked once before any is asked again: rates in flight are then about
    the whole exam, not about its first questions, whose repeats would all be cut or none. After that the repeats of one
    question stand together, so that a block is long or short as a whole and can be begun in its turn."""
    stages = settings.adaptive.stages if settings.adaptive else (settings.repeats,)
    first = 0
    every = tuple(samples)
    for stage, last in enumerate(stages):
        inside = [sample for sample in every if first <= sample.repeat < last]
        for part in ([s for s in inside if s.repeat == 0], [s for s in inside if s.repeat > 0]):
            for start in range(0, len(part), settings.block_size):
                yield stage, tuple(part[start : start + settings.block_size])
        first = last


def eval_rules(settings: EvalConfig, target: str) -> list[RuleSpec]:
    """The rules of one eval on one target, with all numbers that they need."""
    stop = settings.stop_rules
    limits = {"truncated": stop.truncated, "unparsed": stop.unparsed, "errored": stop.errored}
    rules = [
        RuleSpec(
            kind=f"stop_{sign}", target=target, eval=settings.name,
            parameters={"limit": limit, "min_samples": float(stop.min_samples)}
            | ({"expected": _expected_truncated(settings)} if sign == "truncated" else {}),
        )
        for sign, limit in limits.items()
        if limit is not None
    ]  # fmt: skip
    plan, known = settings.adaptive, settings.measured_reference
    if plan is not None:
        # What the stages are held against belongs to the plan: another reference decides otherwise.
        against = known.score if known is not None and settings.gated_by == "reference" else settings.baseline
        numbers = {"against": against or 0.0, "margin": settings.margin, "alpha": plan.alpha}
        numbers |= {f"repeats_{stage}": float(repeats) for stage, repeats in enumerate(plan.stages)}
        rules.append(RuleSpec(kind="adaptive", target=target, eval=settings.name, parameters=numbers))
    return rules


def _expected_truncated(settings: EvalConfig) -> float:
    """Cut replies that are no news: what the reference had at the same limit, or what the user says."""
    known = settings.measured_reference
    if known is None or known.sampling.max_tokens != settings.sampling.max_tokens:
        return settings.stop_rules.expected_truncated
    return max(settings.stop_rules.expected_truncated, known.truncated_fraction or 0.0)
