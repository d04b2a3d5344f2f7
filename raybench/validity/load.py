"""Checks of single runs of serving loads: was the load the one that was meant, was it steady, and who was the limit?

A probe of a search is meant to go beyond what the server bears: failures and retractions of one are warnings, its
verdict is the search's. Checks that need several points or the engine are in `raybench.validity.load_trends`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from raybench.ledger.view import RunView
from raybench.load.words import point_numbers
from raybench.records import EngineFacts, Finding, LoadMeasurement, LoadUnit, Severity
from raybench.records.calibration import Calibration
from raybench.records.loads import ClosedLoad, RampLoad, SessionsLoad
from raybench.records.serving import LoadFigures, ServerSide
from raybench.validity.client import MAX_CPU_FRACTION, MAX_LATENESS_S, MAX_READ_LAG_S, calibration_findings
from raybench.validity.perf import CACHED_FRACTION, CLIENT_CPU_FRACTION

FAILED_FRACTION = 0.01
MIN_TURNOVERS = 5
MIN_REQUESTS = 100
"""Fewer have no 99th percentile."""
LATE_S = 0.002
LATE_FRACTION = 0.02
LAG_S = 0.025
"""An event loop that wakes up so late stamps reads so late."""
EARLY_RATIO = 1.5
COHERENCE = 0.5
MIN_COHERENT = 4
"""Fewer users than this are seldom at odds with each other."""
HIDDEN_FRACTION = 0.1
GRAPH_FRACTION = 0.9
DIFFERENT_FRACTION = 0.05
SHARED_FRACTION = 0.5
BUSY_STATUS = 400
"""Answer of SGLang's /flush_cache while requests run."""

Text = tuple[str, Mapping[str, float], str]
"""(rule, evidence, advice)."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a load that came back."""

    unit: LoadUnit
    measurement: LoadMeasurement
    engine: EngineFacts | None
    """The start that it ran on."""
    calibration: Calibration | None = None
    """The client's own error on the machine at as many streams."""

    @property
    def figures(self) -> LoadFigures:
        """Its figures."""
        return self.measurement.figures

    @property
    def server(self) -> ServerSide | None:
        """The server's own metrics."""
        return self.measurement.server


def load_runs(view: RunView) -> Iterator[Run]:
    """The load units that came back, in plan order."""
    for key, unit in view.units.items():
        done = view.done.get(key)
        if isinstance(unit, LoadUnit) and done is not None and isinstance(done.measurement, LoadMeasurement):
            yield Run(unit, done.measurement, view.engines.get(done.start), view.calibration_of(done))


def load_findings(view: RunView) -> list[Finding]:
    """All findings about single runs, in plan order."""
    return [finding for run in load_runs(view) for check in _CHECKS if (finding := check(run)) is not None]


def of_run(run: Run, code: str, severity: Severity, text: Text) -> Finding:
    """A finding about one run; its place is added to the evidence."""
    rule, evidence, advice = text
    place = point_numbers(run.unit.load) | {"repeat": float(run.unit.repeat), "launch": float(run.unit.launch)}
    return Finding(
        code=code, severity=severity, scope="unit", target=run.unit.target, key=run.unit.key, rule=rule,
        evidence=place | {name: float(value) for name, value in evidence.items()}, advice=advice,
    )  # fmt: skip


def users_of(run: Run) -> int | None:
    """Users of a load that has some."""
    load = run.unit.load
    return load.concurrency if isinstance(load, ClosedLoad | SessionsLoad) else None


def _red(run: Run) -> Severity:
    return "red" if run.unit.probe is None else "warn"


# ------------------------------------------------------------------------------------------------------ what was asked


def _not_idle(run: Run) -> Finding | None:
    if run.measurement.drained is not False:
        return None
    status = run.measurement.flush_status
    busy = status == BUSY_STATUS
    evidence = {} if status is None else {"http_status": status}
    rule = "before its first request the server is idle and its prefix cache empty: it agrees to /flush_cache"
    if busy:
        advice = (
            "Someone else's requests ran on this server until the load began, so its figures are those of both, and "
            "its prefix cache was not emptied. Keep others off the server and measure this point again."
        )
    else:
        said = "no whole answer" if status is None else f"HTTP {status}"
        advice = (
            f"Whether the server was idle is not known: /flush_cache gave {said}. See to it that nobody else uses it, "
            "and look at the cached tokens: prefixes that earlier loads shared may still be in its cache."
        )
    return of_run(run, "not_idle", _red(run) if busy else "warn", (rule, evidence, advice))


def _wrong_output_length(run: Run) -> Finding | None:
    seen = run.figures
    failed = seen.num_failed
    if not seen.num_wrong_length and not seen.num_silent and failed <= FAILED_FRACTION * max(seen.num_sent, 1):
        return None
    evidence = {
        "num_sent": seen.num_sent, "num_wrong_length": seen.num_wrong_length, "num_without_token": seen.num_silent,
        "num_failed": failed,
    }  # fmt: skip
    rule = f"every reply has exactly the tokens that were asked for, and at most {FAILED_FRACTION:.0%} of requests fail"
    cause = f" The first error was: {run.measurement.error}" if run.measurement.error else ""
    advice = (
        "Do not use this point: less work was done than its figures assume. Look at the server's log for errors and "
        f"for a length limit, and check that the server honours ignore_eos and reports its token counts.{cause}"
    )
    wrong = seen.num_wrong_length or seen.num_silent
    return of_run(run, "wrong_output_length", "red" if wrong else _red(run), (rule, evidence, advice))


def _requests_failed(run: Run) -> Finding | None:
    seen = run.figures
    if not seen.num_failed or _wrong_output_length(run) is not None:
        return None
    kinds = {f"num_{status}": number for status, number in seen.statuses.items() if status not in ("ok", "unsent")}
    evidence = {"num_sent": seen.num_sent, "num_failed": seen.num_failed} | kinds
    rule = "no request fails"
    cause = f" The first error was: {run.measurement.error}" if run.measurement.error else ""
    advice = (
        "They count as never answered: a percentile of TTFT or E2E that falls on one of them is none, and means are of "
        f"the others. Look at the server's log before tails of this point are compared.{cause}"
    )
    return of_run(run, "requests_failed", "info", (rule, evidence, advice))


def _unexpected_cache_hits(run: Run) -> Finding | None:
    seen = run.figures
    more = seen.cached_tokens - seen.shared_tokens
    if more <= CACHED_FRACTION * seen.asked_input_tokens:
        return None
    evidence = {
        "cached_tokens": seen.cached_tokens, "meant_tokens": seen.shared_tokens,
        "prompt_tokens": seen.asked_input_tokens, "cached_fraction": seen.cached_tokens / seen.asked_input_tokens,
    }  # fmt: skip
    rule = f"beyond the prefixes that are shared on purpose at most {CACHED_FRACTION:.1%} of prompt tokens are cached"
    advice = (
        "Prefill was partly skipped, so TTFT and throughput are too good. Check that the cache is flushed before every "
        "run and that nothing else sends prompts to this server."
    )
    return of_run(run, "unexpected_cache_hits", "red", (rule, evidence, advice))


def _prefix_not_cached(run: Run) -> Finding | None:
    seen = run.figures
    if not seen.shared_tokens or seen.cached_tokens >= SHARED_FRACTION * seen.shared_tokens:
        return None
    evidence = {"cached_tokens": seen.cached_tokens, "meant_tokens": seen.shared_tokens}
    rule = f"at least {SHARED_FRACTION:.0%} of the prompt tokens that are shared on purpose come from the prefix cache"
    advice = (
        "The server computed common beginnings anew: its prefix cache is off, too small for this many conversations, "
        "or it does not report cached tokens."
    )
    return of_run(run, "prefix_not_cached", "warn", (rule, evidence, advice))


def _retracted(run: Run) -> Finding | None:
    told = run.server.num_retracted if run.server is not None else None
    number = max(float(run.figures.num_retractions), told or 0.0)
    if not number:
        return None
    evidence = {"num_retractions": number, "num_sent": float(run.figures.num_sent)}
    rule = "the scheduler takes no request back"
    advice = (
        "The load did not fit into the KV cache, so parts were computed twice. Raise mem-fraction-static, lower "
        "max-running-requests, or leave this point out."
    )
    return of_run(run, "retracted", _red(run), (rule, evidence, advice))


# ------------------------------------------------------------------------------------------------------ was it steady?


def _overloaded(run: Run) -> Finding | None:
    trend, early = run.figures.queue, run.measurement.stopped_early
    # Users cannot be more than they are, and under a ramp more and more requests are under way by intent.
    bounded = users_of(run) is not None or isinstance(run.unit.load, RampLoad)
    if early is None and (trend is None or not trend.is_growing or bounded):
        return None
    evidence: dict[str, float] = {"stopped_early": float(early is not None)}
    if trend is not None:
        evidence |= {"mean_under_way": trend.mean, "growth": trend.growth, "growth_low": trend.growth_low}
    rule = "the number of requests under way does not grow over the steady part (one-sided 99% interval)"
    advice = (
        "More arrives than the server can do: latencies depend on how long the run lasts and say nothing else. Take "
        f"the throughput of this point as the capacity, and lower rates for latencies.{f' {early}.' if early else ''}"
    )
    return of_run(run, "overloaded", "info" if run.unit.probe else "warn", (rule, evidence, advice))


def _short_window(run: Run) -> Finding | None:
    seen = run.figures
    if seen.window is not None and (seen.min_turnovers is None or seen.min_turnovers >= MIN_TURNOVERS):
        return None
    if _overloaded(run) is not None:
        return None  # end-to-end times grow with the queue: no run is long enough
    evidence = {"turnovers": seen.min_turnovers or 0.0, "window_s": seen.window.length_s if seen.window else 0.0}
    rule = (
        f"the steady part holds at least {MIN_TURNOVERS} ended requests of every user, or lasts {MIN_TURNOVERS} median "
        "end-to-end times where requests have times"
    )
    advice = "The run was over before it was steady. Raise turnovers or duration_s."
    return of_run(run, "short_window", "warn", (rule, evidence, advice))


def _too_few_samples(run: Run) -> Finding | None:
    window = run.figures.window
    if window is None or window.num_sent >= MIN_REQUESTS:
        return None
    evidence = {"num_requests": window.num_sent, "needed_requests": MIN_REQUESTS}
    rule = f"a 99th percentile needs {MIN_REQUESTS} requests in the steady part"
    advice = "Tails of this point are not known. Raise turnovers, duration_s or repeats."
    return of_run(run, "too_few_samples", "info", (rule, evidence, advice))


def _warmup_contaminated(run: Run) -> Finding | None:
    ratio = run.figures.early_ttft_ratio
    trend = run.figures.queue
    # A queue that grows makes the start look quick, one that drains makes it look slow: that is `overloaded`'s.
    changes = isinstance(run.unit.load, RampLoad) or (trend is not None and trend.is_growing)
    if ratio is None or ratio <= EARLY_RATIO or changes:
        return None
    evidence = {"early_ttft_ratio": ratio}
    rule = f"the median TTFT of the first fifth of the steady part is at most {EARLY_RATIO:g} times that of the rest"
    advice = (
        "The start of the run is in its tails: kernels were compiled, caches filled or a burst worked off. Repeat the "
        "point on the warm server, or make it longer."
    )
    return of_run(run, "warmup_contaminated", "warn", (rule, evidence, advice))


def _lockstep(run: Run) -> Finding | None:
    coherence, users = run.figures.coherence, users_of(run)
    if coherence is None or users is None or users < MIN_COHERENT or coherence <= COHERENCE:
        return None
    evidence = {"coherence": coherence}
    rule = f"requests of a closed loop start at all times: their phases have a mean vector of at most {COHERENCE:g}"
    advice = (
        "All users start together, so prefill and decode alternate for the whole batch, which no service does: TTFT is "
        "too long and TPOT too short. Give lengths a jitter or a distribution."
    )
    return of_run(run, "lockstep", "warn", (rule, evidence, advice))


# --------------------------------------------------------------------------------------------------- who was the limit?


def _client_saturated(run: Run) -> Finding | None:
    client = run.measurement.client
    cpu, lag_s = client.max_cpu_fraction or 0.0, client.lag_p99_s or 0.0
    # Real seconds, also where the load's are simulated ones.
    late_s = max((one.lateness_p99_s or 0.0 for one in client.processes), default=0.0)
    is_limit = cpu >= MAX_CPU_FRACTION or lag_s > MAX_READ_LAG_S or late_s > MAX_LATENESS_S
    if not is_limit and cpu <= CLIENT_CPU_FRACTION and lag_s <= LAG_S:
        return None
    evidence = {
        "max_client_cpu_fraction": cpu, "lag_p99_ms": 1000 * lag_s, "lateness_p99_ms": 1000 * late_s,
        "num_processes": client.num_processes,
    }  # fmt: skip
    rule = (
        f"no client process uses more than {CLIENT_CPU_FRACTION:.0%} of a CPU or reads more than {1000 * LAG_S:g} ms "
        "late (99th percentile)"
    )
    rule += (
        f"; from {MAX_CPU_FRACTION:.0%}, {1000 * MAX_READ_LAG_S:g} ms or {1000 * MAX_LATENESS_S:g} ms of lateness in "
        "sending on, the figures are the client's"
    )
    advice = "The client may be the limit and not the server. Give the machine more CPUs, or free the ones it has."
    return of_run(run, "client_saturated", _red(run) if is_limit else "warn", (rule, evidence, advice))


def _client_error(run: Run) -> Finding | None:
    streams = run.measurement.streams
    if run.measurement.simulated or streams is None:
        return None
    found = calibration_findings(run.calibration, streams, run.unit.target, run.unit.key)
    if not found:
        return None
    place = point_numbers(run.unit.load) | {"repeat": float(run.unit.repeat), "launch": float(run.unit.launch)}
    return found[0].model_copy(update={"evidence": place | found[0].evidence})


def _schedule_late(run: Run) -> Finding | None:
    # A user who waits for an answer has no schedule: being late is a pause between requests, which takes load off the
    # server but is in no latency.
    waits = isinstance(run.unit.load, ClosedLoad | SessionsLoad)
    late, of = run.figures.lateness_s, run.figures.e2e_s if waits else run.figures.ttft_s
    if late is None or late.p99 is None or of is None:
        return None
    scale = run.engine.time_scale if run.engine is not None else 1.0
    allowed_s = max(LATE_S * scale, LATE_FRACTION * of.p50)
    if late.p99 <= allowed_s:
        return None
    evidence = {"lateness_p99_ms": 1000 * late.p99, "lateness_p50_ms": 1000 * late.p50, "allowed_ms": 1000 * allowed_s}
    rule = (
        f"99% of the requests are sent within {1000 * LATE_S:g} ms, or {LATE_FRACTION:.0%} of the median "
        f"{'E2E latency' if waits else 'TTFT'}, of their time"
    )
    advice = (
        "The client pauses between an answer and the next request: the server has fewer users than it says. Give the "
        "client more CPUs."
        if waits
        else "The client did not keep its schedule. Latencies of loads with arrival times count from the schedule and "
        "are too long by as much; give the client more CPUs."
    )
    return of_run(run, "schedule_late", "warn", (rule, evidence, advice))


def _frontend_saturated(run: Run) -> Finding | None:
    server, under_way = run.server, run.figures.mean_concurrency
    if server is None or server.mean_running is None or server.mean_queued is None or under_way is None:
        return None
    unsent = _unsent(run)
    hidden = under_way - unsent - server.mean_running - server.mean_queued
    if hidden <= max(2.0, HIDDEN_FRACTION * under_way):
        return None
    evidence = {"under_way": under_way, "running": server.mean_running, "queued": server.mean_queued}
    if unsent:
        evidence["not_sent_yet"] = unsent
    rule = (
        f"at most {HIDDEN_FRACTION:.0%} of the requests under way (and 2) are neither running nor queued in the server"
    )
    advice = (
        "Requests spend their time before the scheduler or after it: the server's HTTP front end, tokenizer or "
        "detokenizer is the limit, not the GPU. Look at the CPU of those processes, or run several front ends."
    )
    return of_run(run, "frontend_saturated", "warn", (rule, evidence, advice))


def _unsent(run: Run) -> float:
    """Mean number of requests that were due and not sent yet, by Little's law: the client's doing, not the server's.

    Loads with times are under way from their scheduled time on, users from the sending.
    """
    seen = run.figures
    if users_of(run) is not None or seen.lateness_s is None or seen.window is None or seen.window.length_s <= 0:
        return 0.0
    return seen.lateness_s.mean * seen.window.num_sent / seen.window.length_s


def _queue_not_concurrency(run: Run) -> Finding | None:
    users, server = users_of(run), run.server
    if users is None or server is None or server.mean_queued is None or server.mean_running is None:
        return None
    if server.mean_queued <= HIDDEN_FRACTION * users:
        return None
    evidence = {"running": server.mean_running, "queued": server.mean_queued}
    if server.max_kv_fraction is not None:
        evidence["max_kv_fraction"] = server.max_kv_fraction
    rule = f"at most {HIDDEN_FRACTION:.0%} of the users of a closed loop wait in the server's queue"
    advice = (
        "The server runs fewer requests at once than there are users (max-running-requests, or the KV cache): more "
        "users only wait longer. Read this point by its running requests."
    )
    return of_run(run, "queue_not_concurrency", "info", (rule, evidence, advice))


def _decode_outside_graph(run: Run) -> Finding | None:
    share = run.server.decode_graph_fraction if run.server is not None else None
    if share is None or share >= GRAPH_FRACTION or (run.engine is not None and run.engine.simulated):
        return None
    evidence = {"decode_graph_fraction": share}
    if run.server is not None and run.server.max_running is not None:
        evidence["max_running"] = run.server.max_running
    rule = f"at least {GRAPH_FRACTION:.0%} of the decode steps run as a CUDA graph"
    advice = "Raise cuda-graph-max-bs to the largest number of running requests, or say that graphs are off on purpose."
    return of_run(run, "decode_outside_graph", "warn", (rule, evidence, advice))


def _counts_differ(run: Run) -> Finding | None:
    server, client = run.server, run.figures.output_tok_per_s
    if server is None or not server.output_tok_per_s or not client:
        return None
    window = run.figures.window
    inside = [s for s in server.samples if window and window.start_s <= s.t_s < window.end_s]
    difference = client / server.output_tok_per_s - 1
    if len(inside) < 10:
        return None
    # The server's looks begin and end up to one of them apart from the client's window.
    allowed = DIFFERENT_FRACTION + 1 / len(inside)
    if abs(difference) <= allowed:
        return None
    evidence = {
        "client_output_tok_per_s": client, "server_output_tok_per_s": server.output_tok_per_s,
        "difference_fraction": difference, "allowed_fraction": allowed,
    }  # fmt: skip
    rule = (
        f"client and server count the same output tokens per second, within {DIFFERENT_FRACTION:.0%} and one of the "
        "server's looks"
    )
    advice = (
        "Something else uses this server, or one of the two counts wrongly. Do not use this point before it is clear."
    )
    return of_run(run, "counts_differ", "warn", (rule, evidence, advice))


_CHECKS: tuple[Callable[[Run], Finding | None], ...] = (
    _not_idle,
    _wrong_output_length,
    _requests_failed,
    _unexpected_cache_hits,
    _prefix_not_cached,
    _retracted,
    _overloaded,
    _short_window,
    _too_few_samples,
    _warmup_contaminated,
    _lockstep,
    _client_saturated,
    _client_error,
    _schedule_late,
    _frontend_saturated,
    _queue_not_concurrency,
    _decode_outside_graph,
    _counts_differ,
)
