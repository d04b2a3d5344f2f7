"""From measured passes to the rows of the performance table. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from raybench.config.schema import OneBatchSweep, TargetConfig
from raybench.ledger.view import Done, RunView
from raybench.records import Finding, OneBatchLoad, PerfMeasurement, PerfUnit
from raybench.report.model import PerfRow, RepeatRow, Spread
from raybench.stats.one_batch import OneBatchFigures, figures

SECONDS_PER_HOUR = 3600
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One pass that came back whole enough to have figures."""

    unit: PerfUnit
    done: Done
    measurement: PerfMeasurement
    values: OneBatchFigures


def measured_passes(view: RunView, target: str, sweep: str, batch_size: int) -> list[Measured]:
    """Passes of one load point, by launch and repeat. Passes in which a request failed are left out of all figures."""
    found: list[Measured] = []
    for key in view.load_points.get((target, sweep, batch_size), ()):
        unit, done = view.units[key], view.done.get(key)
        if done is None or not isinstance(unit, PerfUnit) or not isinstance(done.measurement, PerfMeasurement):
            continue
        measured = done.measurement.measured
        if measured.num_ok == measured.num_requests:
            found.append(Measured(unit, done, done.measurement, figures(measured, unit.load)))
    return sorted(found, key=lambda m: (m.unit.launch, m.unit.repeat))


def perf_rows(view: RunView, findings: Sequence[Finding] = ()) -> tuple[PerfRow, ...]:
    """Rows by target, sweep and batch size as configured; a point without results has a row without figures.

    `findings` in the order in which a row is to name those that are about it.
    """
    codes: dict[tuple[str, str, int], dict[str, None]] = {}
    red: set[tuple[str, str, int]] = set()
    for finding in findings:
        unit = view.units.get(finding.key) if finding.key is not None else None
        if isinstance(unit, PerfUnit):
            place = (unit.target, unit.sweep, unit.load.batch_size)
            codes.setdefault(place, {})[finding.code] = None
            if finding.severity == "red":
                red.add(place)
    rows = (
        _row(view, target, sweep, size)
        for target in view.config.targets
        for sweep in view.config.batch_sweeps
        for size in sweep.batch_sizes
    )
    found: list[PerfRow] = []
    for row in rows:
        place = (row.target, row.sweep, row.batch_size)
        found.append(row.model_copy(update={"findings": tuple(codes.get(place, ())), "red": place in red}))
    return tuple(found)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median and ends of the values that were measured; None without any."""
    seen = [value for value in values if value is not None]
    return Spread(median=median(seen), min=min(seen), max=max(seen), num=len(seen)) if seen else None


def _row(view: RunView, target: TargetConfig, sweep: OneBatchSweep, size: int) -> PerfRow:
    passes = measured_passes(view, target.name, sweep.name, size)

    def over(quantity: Callable[[OneBatchFigures], float | None]) -> Spread | None:
        return spread(quantity(each.values) for each in passes)

    load = OneBatchLoad(batch_size=size, input_tokens=sweep.input_tokens, output_tokens=sweep.output_tokens)
    gpus = target.gpus_per_node
    inputs, outputs = over(lambda v: v.input_tok_per_s), over(lambda v: v.output_tok_per_s)
    return PerfRow(
        target=target.name, sweep=sweep.name, batch_size=size, input_tokens=load.input_tokens,
        output_tokens=load.output_tokens, num_planned=sweep.num_repeats(target.nodes) * sweep.launches,
        latency_s=over(lambda v: v.latency_s),
        first_ttft_s=over(lambda v: v.first_ttft_s),
        median_ttft_s=over(lambda v: v.median_ttft_s),
        last_ttft_s=over(lambda v: v.last_ttft_s),
        input_tok_per_s=inputs,
        output_tok_per_s=outputs,
        overall_tok_per_s=over(lambda v: v.overall_tok_per_s),
        itl_ms=over(lambda v: v.itl_ms),
        steady_output_tok_per_s=over(lambda v: v.steady_output_tok_per_s),
        steady_itl_ms=over(lambda v: v.steady_itl_ms),
        output_tok_per_s_per_gpu=outputs.median / gpus if outputs is not None and gpus else None,
        input_price_per_million_tokens=_price(target, inputs),
        output_price_per_million_tokens=_price(target, outputs),
        mean_power_w=_power(passes),
        repeats=tuple(_repeat(each) for each in passes),
    )  # fmt: skip


def _price(target: TargetConfig, rate: Spread | None) -> float | None:
    """The node's price for the time that a million tokens take at this rate."""
    if rate is None or target.price_per_gpu_hour is None or not target.gpus_per_node or rate.median <= 0:
        return None
    price_per_s = target.price_per_gpu_hour * target.gpus_per_node / SECONDS_PER_HOUR
    return price_per_s * MILLION / rate.median


def _power(passes: Sequence[Measured]) -> float | None:
    sums: list[float] = []
    for each in passes:
        powers = [gpu.mean_power_w for gpu in each.measurement.gpus]
        known = [power for power in powers if power is not None]
        if known and len(known) == len(powers):
            sums.append(sum(known))
    return median(sums) if sums else None


def _repeat(each: Measured) -> RepeatRow:
    return RepeatRow(
        key=each.unit.key, repeat=each.unit.repeat, launch=each.unit.launch, node=each.done.node, start=each.done.start,
        attempt=each.done.attempt, latency_s=each.values.latency_s, last_ttft_s=each.values.last_ttft_s,
        output_tok_per_s=each.values.output_tok_per_s, itl_ms=each.values.itl_ms,
        num_warm_up=len(each.measurement.warm_up), flat=each.measurement.flat,
    )  # fmt: skip
