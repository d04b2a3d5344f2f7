"""Units of serving sweeps, and the first probe of every search, with its rule. Pure.

Arrivals and lengths are common to all targets and to all points of a sweep: what differs between two points is then the
rate or the engine, not the luck of the draw. Prompts are nobody else's.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from pydantic import JsonValue

from raybench.config.schema import RunConfig, TargetConfig
from raybench.config.serving import (
    AnyServingSweep,
    ClosedSweep,
    OpenSweep,
    RampSweep,
    SessionsSweep,
    SloSearch,
    TraceSweep,
)
from raybench.errors import PlanError
from raybench.plan.keys import load_key, number_of, order_seed
from raybench.records import LoadUnit, Probe, RuleSpec
from raybench.records.loads import ClosedLoad, OpenLoad, RampLoad, ServingLoad, SessionsLoad, TraceLoad

SLO_SEARCH = "slo_search"
"""`RuleSpec.kind` of a search."""


@dataclass(frozen=True, slots=True)
class Files:
    """What the driver has read for the sweeps, by their names."""

    traces: Mapping[str, TraceLoad] = field(default_factory=dict[str, TraceLoad])
    """Traces."""
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Prompts of real text."""


def loads_of(sweep: AnyServingSweep, files: Files) -> tuple[ServingLoad, ...]:
    """The points of a sweep in its order; of a search, the load of its first probe. Raises PlanError."""
    match sweep:
        case ClosedSweep():
            return tuple(
                ClosedLoad(
                    concurrency=users, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens,
                    jitter_fraction=sweep.jitter_fraction,
                    turnovers=max(sweep.turnovers, ceil(sweep.min_requests / users)), prefix=sweep.prefix,
                    texts=files.texts.get(sweep.name, ()),
                )
                for users in sweep.concurrency
            )  # fmt: skip
        case OpenSweep():
            return tuple(_open(sweep, rate, files.texts.get(sweep.name, ())) for rate in sweep.rates)
        case RampSweep():
            return (
                RampLoad(
                    start_rate_per_s=sweep.start_rate, end_rate_per_s=sweep.end_rate, arrivals=sweep.arrivals,
                    duration_s=sweep.duration_s, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens,
                ),
            )  # fmt: skip
        case TraceSweep():
            if sweep.name not in files.traces:
                raise PlanError(f"sweep {sweep.name}: its trace {sweep.path} was not read")
            return tuple(files.traces[sweep.name].model_copy(update={"speed": speed}) for speed in sweep.speeds)
        case SessionsSweep():
            return tuple(
                SessionsLoad(
                    concurrency=users, sessions=sweep.sessions, turns=sweep.turns, system_tokens=sweep.system_tokens,
                    input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens, think_s=sweep.think_s,
                )
                for users in sweep.concurrency
            )  # fmt: skip
        case SloSearch():
            if sweep.over == "rate":
                return (_open(sweep, sweep.start),)
            return (
                ClosedLoad(
                    concurrency=int(sweep.start), input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens,
                    prefix=sweep.prefix,
                ),
            )  # fmt: skip


def _open(sweep: OpenSweep | SloSearch, rate: float, texts: tuple[str, ...] = ()) -> OpenLoad:
    return OpenLoad(
        rate_per_s=rate, arrivals=sweep.arrivals, burstiness=sweep.burstiness, duration_s=sweep.duration_s,
        input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens, prefix=sweep.prefix, texts=texts,
    )  # fmt: skip


def load_units(config: RunConfig, target: TargetConfig, identity: dict[str, JsonValue], files: Files) -> list[LoadUnit]:
    """All units of a target's serving sweeps, and the first probe of each of its searches."""
    units: list[LoadUnit] = []
    for sweep in config.serving_sweeps:
        points = loads_of(sweep, files)
        for launch in range(sweep.launches):
            for repeat in range(sweep.repeats):
                order = list(range(len(points)))
                random.Random(order_seed(config.seed, sweep.name, repeat, launch)).shuffle(order)
                units += [
                    _unit(config, target, sweep, (points[place], repeat, launch, number), identity)
                    for number, place in enumerate(order)
                ]
    return units


def _unit(
    config: RunConfig,
    target: TargetConfig,
    sweep: AnyServingSweep,
    place: tuple[ServingLoad, int, int, int],
    identity: dict[str, JsonValue],
) -> LoadUnit:
    """`place` = (load, repeat, launch, order)."""
    load, repeat, launch, order = place
    unit = LoadUnit(
        key="", target=target.name, sweep=sweep.name, load=load, repeat=repeat, launch=launch, order=order,
        arrival_seed=number_of([config.seed, "arrivals", sweep.name, repeat, launch]),
        prompt_seed=number_of([config.seed, sweep.name, load.model_dump(mode="json"), repeat, launch]),
        route=sweep.route, slo=sweep.slo, timeout_s=sweep.timeout_s,
        probe=Probe(number=0, role="bracket") if isinstance(sweep, SloSearch) else None,
    )  # fmt: skip
    return unit.model_copy(update={"key": load_key(identity, unit)})


def search_rules(config: RunConfig, units: list[LoadUnit]) -> list[RuleSpec]:
    """One rule for every search, from its first probe."""
    searches = {sweep.name: sweep for sweep in config.serving_sweeps if isinstance(sweep, SloSearch)}
    return [
        RuleSpec(kind=SLO_SEARCH, target=unit.target, parameters=_numbers(searches[unit.sweep]), probe=unit)
        for unit in units
        if unit.probe is not None
    ]


def _numbers(sweep: SloSearch) -> dict[str, float]:
    return {
        "start": sweep.start, "min": sweep.min, "max": sweep.max, "tolerance_fraction": sweep.tolerance_fraction,
        "max_probes": float(sweep.max_probes), "max_duration_s": sweep.max_duration_s,
        "min_requests": float(sweep.min_requests), "whole": float(sweep.over == "concurrency"),
    }  # fmt: skip
