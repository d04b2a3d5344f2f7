"""Ledgers of serving loads whose runs are made by arithmetic."""

from collections.abc import Callable, Sequence

from ledger_builder import T0, LedgerBuilder, config
from load_runs import played
from pydantic import JsonValue

from raybench.config.schema import RunConfig
from raybench.load.schedules import schedule_of
from raybench.plan.expand import expand
from raybench.plan.searches import Searches
from raybench.records import EngineFacts, LoadMeasurement, LoadUnit
from raybench.records.calibration import Calibration
from raybench.records.serving import ClientSide, ServerSample
from raybench.stats.latency import LoadRun, figures_of

LoadChange = Callable[[LoadUnit, LoadMeasurement], LoadMeasurement]
RunChange = Callable[[LoadUnit, LoadRun], LoadRun]

SPEED = {"alpha": (60.0, 12.0), "beta": (40.0, 8.0)}
"""TTFT and ITL in milliseconds."""
SERVERS = {"alpha": 12, "beta": 20}
"""Requests that a target takes at once; others queue."""

CLOSED: JsonValue = {
    "name": "users", "load": "closed", "concurrency": [6, 8], "input_tokens": 500, "output_tokens": 60, "turnovers": 22,
    "slo": {"ttft_ms": 200, "tpot_ms": 20},
}  # fmt: skip
OPEN: JsonValue = {
    "name": "rates", "load": "open", "rates": [3, 6], "duration_s": 60, "input_tokens": 500, "output_tokens": 60,
    "slo": {"ttft_ms": 200, "tpot_ms": 20},
}  # fmt: skip
SEARCH: JsonValue = {
    "name": "limit", "load": "slo_search", "over": "rate", "start": 4, "min": 1, "max": 64, "duration_s": 60,
    "input_tokens": 500, "output_tokens": 60, "slo": {"ttft_ms": 400, "share": 0.95}, "tolerance_fraction": 0.1,
}  # fmt: skip


def serving_config(*sweeps: JsonValue) -> RunConfig:
    """Two GPU targets with serving loads only."""
    return config(perf=list(sweeps) or [CLOSED, OPEN, SEARCH], evals=[])


def load_measurement(unit: LoadUnit, change: RunChange | None = None) -> LoadMeasurement:
    """A run of the unit on its target's arithmetic."""
    ttft_ms, itl_ms = SPEED[unit.target]
    run = played(schedule_of(unit.load, unit.arrival_seed, unit.prompt_seed), ttft_ms, itl_ms, SERVERS[unit.target])
    run = change(unit, run) if change else run
    return LoadMeasurement(
        figures=figures_of(run, unit.slo), client=ClientSide(max_cpu_fraction=0.2, lag_p99_s=0.001, cpus=(6, 7)),
        drained=True, started_unix_s=T0, duration_s=70.0, load_average_1m=1.0,
    )  # fmt: skip


def sampled(*rows: tuple[float, float, float]) -> tuple[ServerSample, ...]:
    """Looks at the server: (time, running, queued)."""
    return tuple(ServerSample(t_s=t, running=running, queued=queued) for t, running, queued in rows)


def serving_ledger(
    settings: RunConfig | None = None,
    *,
    run: RunChange | None = None,
    change: LoadChange | None = None,
    engine: Callable[[EngineFacts], EngineFacts] | None = None,
    calibrations: Sequence[Calibration] = (),
) -> LedgerBuilder:
    """A run in which every load came back and every search came to its end."""
    builder = LedgerBuilder(settings or serving_config())
    builder.plan = expand(builder.settings, {})
    builder.session()
    builder.planned()
    starts = {target.name: f"n{number}.0" for number, target in enumerate(builder.settings.targets)}
    for number, target in enumerate(builder.settings.targets):
        builder.node(target.name, number)
        builder.engine(target.name, starts[target.name], engine)
    for one in calibrations:
        builder.add("calibration", one)
    searches = Searches(builder.plan)
    waiting = [unit for unit in builder.plan.units if isinstance(unit, LoadUnit)]
    while waiting:
        unit = waiting.pop(0)
        found = load_measurement(unit, run)
        found = change(unit, found) if change else found
        start = starts[unit.target]
        builder.add("unit_done", found, key=unit.key, attempt=1, node=start.split(".")[0], launch=start)
        for decision in searches.done(unit.key, found):
            builder.add("decision", decision)
            waiting += decision.added
    builder.end()
    return builder
