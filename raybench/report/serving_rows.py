"""From runs of serving loads to rows of the report. Pure."""

from collections.abc import Callable, Sequence

from raybench.config.schema import TargetConfig
from raybench.ledger.bodies import SEARCH_END
from raybench.ledger.view import Done, RunView
from raybench.load.words import load_words, point_value, point_words
from raybench.plan.searches import tried_of, value_of
from raybench.records import Finding, LoadMeasurement, LoadUnit, RuleSpec
from raybench.records.base import content_hash
from raybench.records.loads import OpenLoad
from raybench.records.serving import LoadFigures, Percentiles
from raybench.report.front import with_front
from raybench.report.points import MILLION, SECONDS_PER_HOUR, spread
from raybench.report.serving_model import LoadRatioRow, LoadRow, LoadRunRow, ProbeRow, SearchRow
from raybench.report.spread import Spread
from raybench.stats.compare import Ratio, ratio

Quantity = Callable[[LoadRunRow], float | None]
Place = tuple[str, str, str]
"""(target, sweep, point)."""


def load_rows(view: RunView, findings: Sequence[Finding] = ()) -> tuple[LoadRow, ...]:
    """Rows of all points in plan order; a point without results has a row without figures."""
    places: dict[Place, list[LoadUnit]] = {}
    for unit in view.units.values():
        if isinstance(unit, LoadUnit) and unit.probe is None:
            places.setdefault(_place(unit), []).append(unit)
    codes, red = _codes(view, findings)
    targets = {target.name: target for target in view.config.targets}
    order = {sweep.name: number for number, sweep in enumerate(view.config.perf)}
    rows = [
        _row(view, targets[place[0]], units).model_copy(
            update={"findings": tuple(codes.get(place, ())), "red": place in red}
        )
        for place, units in places.items()
    ]
    rows.sort(key=lambda row: (list(targets).index(row.target), order.get(row.sweep, 0), row.value))
    return with_front(rows)


def ratio_rows(rows: Sequence[LoadRow]) -> tuple[LoadRatioRow, ...]:
    """Points of all other targets against those of the first."""
    baseline = rows[0].target if rows else ""
    known = {(row.sweep, row.point): row for row in rows if row.target == baseline}
    pairs = [(known.get((row.sweep, row.point)), row) for row in rows if row.target != baseline]
    return tuple(_ratios(base, row) for base, row in pairs if base is not None)


def _ratios(base: LoadRow, row: LoadRow) -> LoadRatioRow:
    runs, others = ((), ()) if base.red or row.red else (row.runs, base.runs)

    def over(quantity: Quantity) -> Ratio | None:
        return ratio([quantity(run) for run in runs], [quantity(run) for run in others])

    return LoadRatioRow(
        baseline=base.target, target=row.target, sweep=row.sweep, point=row.point,
        output_throughput=over(lambda run: run.figures.output_tok_per_s),
        ttft_p50=over(lambda run: _level(run.figures, "ttft_s", "p50")),
        tpot_p50=over(lambda run: _level(run.figures, "tpot_s", "p50")),
        e2e_p50=over(lambda run: _level(run.figures, "e2e_s", "p50")),
        findings=tuple(dict.fromkeys([*base.findings, *row.findings])),
    )  # fmt: skip


def search_rows(view: RunView) -> tuple[SearchRow, ...]:
    """Rows of all searches in plan order."""
    rules = () if view.plan is None else view.plan.plan.rules
    return tuple(_search(view, rule, rule.probe) for rule in rules if rule.probe is not None)


def _place(unit: LoadUnit) -> Place:
    return unit.target, unit.sweep, point_words(unit.load)


def _words(unit: LoadUnit) -> str:
    return load_words(unit.load) + ("" if unit.route == "generate" else f", {unit.route}")


def _requests(unit: LoadUnit) -> str:
    # How many requests of each user there are follows from the users, where a sweep has min_requests.
    load = unit.load.model_dump(mode="json", exclude={"concurrency", "turnovers", "rate_per_s"})
    return content_hash([load, unit.route])


def _codes(view: RunView, findings: Sequence[Finding]) -> tuple[dict[Place, dict[str, None]], set[Place]]:
    codes: dict[Place, dict[str, None]] = {}
    red: set[Place] = set()
    for finding in findings:
        unit = view.units.get(finding.key) if finding.key is not None else None
        if isinstance(unit, LoadUnit):
            codes.setdefault(_place(unit), {})[finding.code] = None
            if finding.severity == "red":
                red.add(_place(unit))
    return codes, red


def _run(view: RunView, unit: LoadUnit, done: Done) -> LoadRunRow | None:
    if not isinstance(done.measurement, LoadMeasurement):
        return None
    return LoadRunRow(
        key=unit.key, repeat=unit.repeat, launch=unit.launch, node=done.node, start=done.start, attempt=done.attempt,
        figures=done.measurement.figures, client=done.measurement.client, server=done.measurement.server,
        calibration=view.calibration_of(done), streams=done.measurement.streams,
    )  # fmt: skip


def _row(view: RunView, target: TargetConfig, units: list[LoadUnit]) -> LoadRow:
    units.sort(key=lambda unit: (unit.launch, unit.repeat))
    came = [(unit, view.done[unit.key]) for unit in units if unit.key in view.done]
    runs = [run for unit, done in came if (run := _run(view, unit, done)) is not None]

    def over(quantity: Quantity) -> Spread | None:
        return spread(quantity(run) for run in runs)

    def level(name: str, share: str) -> Spread | None:
        # A run whose level falls on a failed request is above all others: without it the rest would look well.
        if any(run.figures.is_failed(name, share) for run in runs):
            return None
        return over(lambda run: _level(run.figures, name, share))

    load = units[0].load
    inputs, outputs = over(lambda run: run.figures.input_tok_per_s), over(lambda run: run.figures.output_tok_per_s)
    gpus = target.gpus_per_node
    return LoadRow(
        target=target.name, sweep=units[0].sweep, kind=load.kind, point=point_words(load), value=point_value(load),
        load=_words(units[0]), requests=_requests(units[0]), num_planned=len(units),
        request_per_s=over(lambda run: run.figures.request_per_s), input_tok_per_s=inputs, output_tok_per_s=outputs,
        total_tok_per_s_per_gpu=(inputs.median + outputs.median) / gpus if inputs and outputs and gpus else None,
        output_tok_per_s_per_gpu=outputs.median / gpus if outputs and gpus else None,
        output_price_per_million_tokens=_price(target, outputs),
        tok_per_s_per_user=over(lambda run: run.figures.tok_per_s_per_user),
        ttft_p50_s=level("ttft_s", "p50"), ttft_p99_s=level("ttft_s", "p99"),
        tpot_p50_s=level("tpot_s", "p50"), tpot_p99_s=level("tpot_s", "p99"),
        longest_gap_p99_s=level("longest_gap_s", "p99"),
        e2e_p50_s=level("e2e_s", "p50"), e2e_p99_s=level("e2e_s", "p99"),
        good_fraction=over(lambda run: run.figures.goodput.good_fraction if run.figures.goodput else None),
        good_request_per_s=over(lambda run: run.figures.goodput.request_per_s if run.figures.goodput else None),
        mean_concurrency=over(lambda run: run.figures.mean_concurrency),
        mean_running=over(lambda run: run.server.mean_running if run.server else None),
        mean_queued=over(lambda run: run.server.mean_queued if run.server else None),
        num_requests=sum(run.figures.window.num_sent for run in runs if run.figures.window),
        runs=tuple(runs),
    )  # fmt: skip


def _level(figures: LoadFigures, name: str, share: str) -> float | None:
    found = getattr(figures, name)
    value = getattr(found, share) if isinstance(found, Percentiles) else None
    return value if isinstance(value, float) else None


def _price(target: TargetConfig, rate: Spread | None) -> float | None:
    if rate is None or target.price_per_gpu_hour is None or not target.gpus_per_node or rate.median <= 0:
        return None
    return target.price_per_gpu_hour * target.gpus_per_node / SECONDS_PER_HOUR * MILLION / rate.median


def _search(view: RunView, rule: RuleSpec, first: LoadUnit) -> SearchRow:
    place = (first.target, first.sweep)
    units = [
        unit
        for unit in view.units.values()
        if isinstance(unit, LoadUnit) and unit.probe is not None and (unit.target, unit.sweep) == place
    ]
    results = {
        unit.key: done.measurement
        for unit in units
        if (done := view.done.get(unit.key)) is not None and isinstance(done.measurement, LoadMeasurement)
    }
    made = [unit for unit in units if unit.key in results]
    probes: list[ProbeRow] = []
    for unit, tried in zip(made, tried_of(made, results, rule), strict=True):
        run = _run(view, unit, view.done[unit.key])
        if run is not None and unit.probe is not None:
            probes.append(
                ProbeRow(
                    number=unit.probe.number, role=unit.probe.role, again=unit.probe.again, value=value_of(unit),
                    result=tried.result, reason=tried.reason, run=run,
                )
            )  # fmt: skip
    end = next((d for d in view.decisions if d.what == SEARCH_END and (d.target, d.sweep) == place), None)
    if first.slo is None:
        raise ValueError(f"search {first.sweep} has no SLO")
    return SearchRow(
        target=first.target, sweep=first.sweep, over="rate" if isinstance(first.load, OpenLoad) else "concurrency",
        load=_words(first), slo=first.slo, found=None if end is None else end.numbers.get("found"),
        broke_at=None if end is None else end.numbers.get("broke_at"), ended=end is not None,
        reason="cut off before its end" if end is None else end.reason, probes=tuple(probes),
    )  # fmt: skip
