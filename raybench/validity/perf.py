"""Checks of single measured passes: was the work done that was asked for, warm, alone and without a stall?

The rules look at what the server counted and at what the client saw, never at what a figure should be. Comparisons of
points and repeats with each other are in `raybench.validity.trends`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from raybench.ledger.view import Done, RunView
from raybench.records import Finding, PerfMeasurement, PerfUnit, Severity
from raybench.stats.one_batch import figures
from raybench.validity.trends import trend_findings

CACHED_FRACTION = 0.001
"""Prompts have distinct first tokens and the cache is flushed: more than the odd shared special token is a fault."""

STALL_ITLS = 10
STALL_LATENCY_FRACTION = 0.05
CLIENT_CPU_FRACTION = 0.8

FIRST_CHUNK_TOKENS = 1.1
"""Mean over a batch. Prefill makes one token a request; two that were read together now and then are the network's."""

HARMLESS_CLOCK_REASONS = frozenset({"gpu_idle", "applications_clocks", "sw_power_cap", "sync_boost", "display_clock"})
"""Idle between passes, and the board's own power limit, which is part of the product; the rest is cooling or supply."""


def perf_findings(view: RunView) -> list[Finding]:
    """All findings about the perf units of a run, in plan order, then those over repeats and batch sizes."""
    found: list[Finding] = []
    passes = list(perf_units(view))
    for unit, done, measurement in passes:
        for check in _UNIT_CHECKS:
            finding = check(unit, done, measurement)
            if finding is not None:
                found.append(finding)
    for target in view.config.targets:
        mine = [measurement for unit, _, measurement in passes if unit.target == target.name]
        for check_target in (_client_saturated, _shared_host, _throttled):
            finding = check_target(target.name, mine)
            if finding is not None:
                found.append(finding)
    return found + trend_findings(view)


def perf_units(view: RunView) -> Iterator[tuple[PerfUnit, Done, PerfMeasurement]]:
    """The perf units that came back, in plan order."""
    for key, unit in view.units.items():
        done = view.done.get(key)
        if isinstance(unit, PerfUnit) and done is not None and isinstance(done.measurement, PerfMeasurement):
            yield unit, done, done.measurement


# ------------------------------------------------------------------------------------------------------- single passes


def _wrong_output_length(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    seen, asked = measurement.measured, unit.load.output_tokens
    whole = seen.num_ok == seen.num_requests == unit.load.batch_size
    if whole and seen.min_output_tokens == seen.max_output_tokens == asked:
        return None
    evidence = {
        "asked_tokens": asked,
        "min_output_tokens": seen.min_output_tokens,
        "max_output_tokens": seen.max_output_tokens,
        "num_ok": seen.num_ok,
        "num_requests": seen.num_requests,
    }
    rule = f"every request of a measured pass must end well with exactly {asked} output tokens"
    cause = f" The first error was: {seen.error}" if seen.error else ""
    advice = (
        "Do not use this row: less work was done than its figures assume. Look at the server's log for errors and for "
        f"a length limit, and check that the server honours ignore_eos and reports its token counts.{cause}"
    )
    return _of_unit(unit, "wrong_output_length", "red", (rule, evidence, advice))


def _wrong_prompt_length(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    seen, asked = measurement.measured.prompt_tokens, unit.load.batch_size * unit.load.input_tokens
    if seen == asked or measurement.measured.num_ok < unit.load.batch_size:
        return None
    evidence = {"asked_tokens": asked, "prompt_tokens": seen}
    rule = f"the server must count the {asked} prompt tokens that were sent"
    advice = "Input throughput uses the number that was sent. Find out what the server adds to or cuts from prompts."
    return _of_unit(unit, "wrong_prompt_length", "warn", (rule, evidence, advice))


def _unexpected_cache_hits(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    seen = measurement.measured
    sent = unit.load.batch_size * unit.load.input_tokens
    if seen.cached_tokens <= CACHED_FRACTION * sent:
        return None
    evidence = {
        "cached_tokens": seen.cached_tokens,
        "prompt_tokens": sent,
        "cached_fraction": seen.cached_tokens / sent,
    }
    rule = f"at most {CACHED_FRACTION:.1%} of the prompt tokens may come from the prefix cache"
    advice = (
        "The prefill was partly skipped, so TTFT and input throughput are too good. Check that the cache is flushed "
        "before every pass and that nothing else sends prompts to this server."
    )
    return _of_unit(unit, "unexpected_cache_hits", "red", (rule, evidence, advice))


def _retracted(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    if measurement.measured.num_retractions == 0:
        return None
    evidence = {"num_retractions": measurement.measured.num_retractions, "num_requests": unit.load.batch_size}
    rule = "the scheduler may not take a request back during a measured pass"
    advice = (
        "The batch did not fit into the KV cache, so parts were computed twice. Raise mem-fraction-static, lower "
        "max-running-requests, or leave this batch size out."
    )
    return _of_unit(unit, "retracted", "red", (rule, evidence, advice))


def _cold_start(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    latencies = [warm.latency_s for warm in measurement.warm_up]
    if measurement.flat and latencies:
        return None
    evidence = {"num_warm_up_passes": len(latencies), "measured_latency_s": measurement.measured.latency_s}
    if latencies:
        evidence["last_warm_up_latency_s"] = latencies[-1]
    if len(latencies) > 1 and latencies[-1] > 0:
        evidence["previous_warm_up_latency_s"] = latencies[-2]
        evidence["change_fraction"] = latencies[-1] / latencies[-2] - 1 if latencies[-2] > 0 else 0.0
    for name, warm in zip(("last", "previous"), reversed(measurement.warm_up), strict=False):
        if warm.last_ttft_s is not None:
            evidence[f"{name}_warm_up_ttft_s"] = warm.last_ttft_s
    tolerance = unit.warm_up.tolerance_fraction
    rule = (
        f"two successive warm-up passes at the measured shape must agree within {tolerance:.0%} in latency and "
        f"{2 * tolerance:.0%} in time to first token (at most {unit.warm_up.max_passes} passes)"
    )
    advice = (
        "This row may hold kernel compilation, autotuning or a busy machine. Raise perf.warm_up.max_passes, or look "
        "for other work on the machine; do not raise the tolerance first."
    )
    return _of_unit(unit, "cold_start", "warn", (rule, evidence, advice))


def _stall(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    seen = measurement.measured
    values = figures(seen, unit.load)
    itl_ms = values.steady_itl_ms if values.steady_itl_ms is not None else values.itl_ms
    if seen.longest_gap_s is None or itl_ms is None:
        return None
    # The first requests of a batch wait for their second token while the others' prompts are still read: on an H200,
    # 2.9 s of a batch of 64. That is the work, not a stall.
    prefill_s = (seen.last_ttft_s or 0.0) - (seen.first_ttft_s or 0.0)
    silent_s = seen.longest_gap_s - prefill_s
    if silent_s * 1000 <= STALL_ITLS * itl_ms or silent_s <= STALL_LATENCY_FRACTION * seen.latency_s:
        return None
    evidence = {
        "longest_gap_s": seen.longest_gap_s, "prefill_of_others_s": prefill_s, "itl_ms": itl_ms,
        "latency_s": seen.latency_s,
    }  # fmt: skip
    rule = (
        f"beyond the prefill of the rest of the batch no request may be silent for more than {STALL_ITLS} times the "
        f"inter-token latency and more than {STALL_LATENCY_FRACTION:.0%} of the latency"
    )
    advice = (
        "The server stood still in the middle of this pass. Look at its log at that time (a kernel compiling, a "
        "garbage collection, another request) and trust the other repeats more than this one."
    )
    return _of_unit(unit, "stall", "warn", (rule, evidence, advice))


def _late_first_token(unit: PerfUnit, _done: Done, measurement: PerfMeasurement) -> Finding | None:
    seen = measurement.measured
    if seen.first_chunk_tokens is None or seen.num_ok < seen.num_requests:
        return None
    mean = seen.first_chunk_tokens / seen.num_requests
    if mean <= FIRST_CHUNK_TOKENS:
        return None
    evidence: dict[str, float] = {"first_chunk_tokens": mean, "last_ttft_s": seen.last_ttft_s or 0.0}
    rule = f"the first chunk of a reply carries one token (on average at most {FIRST_CHUNK_TOKENS:g})"
    advice = (
        "The first tokens were held back until more had been made, so TTFT is too long, and output throughput and ITL, "
        "which start at TTFT, are too good. Let the server stream every token, look for a proxy that buffers, and "
        "compare steady values and latency only."
    )
    return _of_unit(unit, "late_first_token", "warn", (rule, evidence, advice))


def _of_unit(unit: PerfUnit, code: str, severity: Severity, text: tuple[str, Mapping[str, float], str]) -> Finding:
    """`text` = (rule, evidence, advice); the place of the unit is added to the evidence."""
    rule, evidence, advice = text
    place = {"batch_size": float(unit.load.batch_size), "repeat": float(unit.repeat), "launch": float(unit.launch)}
    return Finding(
        code=code, severity=severity, scope="unit", target=unit.target, key=unit.key, rule=rule,
        evidence=place | {name: float(value) for name, value in evidence.items()}, advice=advice,
    )  # fmt: skip


_UNIT_CHECKS: tuple[Callable[[PerfUnit, Done, PerfMeasurement], Finding | None], ...] = (
    _wrong_output_length,
    _wrong_prompt_length,
    _unexpected_cache_hits,
    _retracted,
    _cold_start,
    _stall,
    _late_first_token,
)


# -------------------------------------------------------------------------------------------------------- whole targets


def _client_saturated(target: str, measurements: Sequence[PerfMeasurement]) -> Finding | None:
    seen = [m.client_cpu_fraction for m in measurements if m.client_cpu_fraction is not None]
    busy = [fraction for fraction in seen if fraction > CLIENT_CPU_FRACTION]
    if not busy:
        return None
    rule = f"the load client may use at most {CLIENT_CPU_FRACTION:.0%} of one CPU during a measured pass"
    advice = "The client may be the limit and not the server. Give the machine more CPUs, or free the ones it has."
    evidence = {"num_units": float(len(busy)), "max_client_cpu_fraction": max(busy)}
    return _of_target(target, "client_saturated", (rule, evidence, advice))


def _shared_host(target: str, measurements: Sequence[PerfMeasurement]) -> Finding | None:
    shared = [m.engines_on_host for m in measurements if m.engines_on_host > 1]
    if not shared:
        return None
    rule = "one engine on a host while a pass is measured"
    advice = (
        "Another engine was up on the same machine: it was idle, since only one unit runs on a host at a time, but it "
        "held memory and threads. Give every target its own machine for figures that are to be published."
    )
    evidence = {"num_units": float(len(shared)), "max_engines_on_host": float(max(shared))}
    return _of_target(target, "shared_host", (rule, evidence, advice))


def _throttled(target: str, measurements: Sequence[PerfMeasurement]) -> Finding | None:
    reasons: set[str] = set()
    gpus: set[int] = set()
    num_units = 0
    for measurement in measurements:
        bad = {g.index: set(g.throttle_reasons) - HARMLESS_CLOCK_REASONS for g in measurement.gpus}
        bad = {index: names for index, names in bad.items() if names}
        num_units += bool(bad)
        gpus |= set(bad)
        reasons = reasons.union(*bad.values())
    if not num_units:
        return None
    temperatures = [g.max_temperature_c for m in measurements for g in m.gpus if g.max_temperature_c is not None]
    evidence = {"num_units": float(num_units), "num_gpus": float(len(gpus))}
    if temperatures:
        evidence["max_temperature_c"] = max(temperatures)
    rule = f"no GPU may lower its clocks but for idleness or its power limit; seen: {', '.join(sorted(reasons))}"
    advice = "The figures show the machine's cooling or power supply, not the GPU. Repair that, then measure again."
    return _of_target(target, "throttled", (rule, evidence, advice))


def _of_target(target: str, code: str, text: tuple[str, dict[str, float], str]) -> Finding:
    rule, evidence, advice = text
    return Finding(
        code=code, severity="warn", scope="target", target=target, rule=rule, evidence=evidence, advice=advice
    )
