"""From a configuration and the evals' rows to a plan with nothing left to default."""

import random
from collections.abc import Mapping

from pydantic import JsonValue

from raybench.config.schema import OneBatchSweep, RunConfig, TargetConfig
from raybench.evals import eval_of
from raybench.evals.base import Rows
from raybench.evals.specs import sample_specs
from raybench.plan.checks import check_units
from raybench.plan.keys import eval_key, order_seed, perf_key, prompt_seed, target_identity
from raybench.records import CheckUnit, EvalUnit, OneBatchLoad, PerfUnit, Plan


def expand(config: RunConfig, rows: Mapping[str, Rows]) -> Plan:
    """All units of all targets; `rows` by the eval's name in the configuration. Raises ConfigError, RowsError."""
    units: list[PerfUnit | EvalUnit | CheckUnit] = []
    for target in config.targets:
        identity = target_identity(config, target)
        for sweep in config.perf:
            units.extend(_perf_units(config, target, sweep, identity))
        blocks = _eval_units(config, target, rows, identity)
        units.extend(check_units(config, target, identity, blocks))
        units.extend(blocks)
    return Plan(units=tuple(units))


def _perf_units(
    config: RunConfig, target: TargetConfig, sweep: OneBatchSweep, identity: dict[str, JsonValue]
) -> list[PerfUnit]:
    units: list[PerfUnit] = []
    for launch in range(sweep.launches):
        for repeat in range(sweep.repeats):
            sizes = list(sweep.batch_sizes)
            # A fixed order would give every point the same neighbour, and drift would look like an effect of size.
            random.Random(order_seed(config.seed, sweep.name, repeat, launch)).shuffle(sizes)
            for order, batch_size in enumerate(sizes):
                load = OneBatchLoad(
                    batch_size=batch_size, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens
                )
                seed = prompt_seed(config.seed, sweep.name, load, repeat, launch)
                key = perf_key(identity | {"sweep": sweep.name}, load, seed, (repeat, launch), sweep.warm_up)
                units.append(
                    PerfUnit(
                        key=key, target=target.name, sweep=sweep.name, load=load, repeat=repeat, launch=launch,
                        order=order, prompt_seed=seed, warm_up=sweep.warm_up, timeout_s=sweep.timeout_s,
                    )
                )  # fmt: skip
    return units


def _eval_units(
    config: RunConfig, target: TargetConfig, rows: Mapping[str, Rows], identity: dict[str, JsonValue]
) -> list[EvalUnit]:
    units: list[EvalUnit] = []
    for settings in config.evals:
        samples = sample_specs(eval_of(settings), rows[settings.name], settings, config.seed, identity)
        for block, start in enumerate(range(0, len(samples), settings.block_size)):
            part = samples[start : start + settings.block_size]
            units.append(
                EvalUnit(
                    key=eval_key(target.name, part), target=target.name, eval=settings.name, block=block, samples=part,
                    sampling=settings.sampling, concurrency=settings.concurrency, timeout_s=settings.timeout_s,
                    route=settings.route,
                )
            )  # fmt: skip
    return units
