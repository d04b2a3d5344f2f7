"""Every finding about measured passes, made to happen, and none on a sound run."""

from collections.abc import Callable

import pytest
from ledger_builder import config, whole_ledger

from raybench.records import Finding, GpuSummary, Pass, PerfMeasurement, PerfUnit
from raybench.validity.perf import perf_findings
from raybench.validity.trends import Point, Repeat, monotonic_findings, prefill_findings, repeat_findings

KEY = "alpha-static-b4-r1-l0"


def _change_pass(**changes: object) -> Callable[[PerfUnit, PerfMeasurement], PerfMeasurement]:
    """Change the measured pass of one unit."""

    def change(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        if unit.key != KEY:
            return result
        return result.model_copy(update={"measured": result.measured.model_copy(update=changes)})

    return change


def _change(**changes: object) -> Callable[[PerfUnit, PerfMeasurement], PerfMeasurement]:
    """Change the measurement of one unit."""

    def change(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        return result.model_copy(update=changes) if unit.key == KEY else result

    return change


def _only(findings: list[Finding], code: str) -> Finding:
    assert [finding.code for finding in findings] == [code]
    return findings[0]


def test_sound_run_has_no_finding() -> None:
    assert perf_findings(whole_ledger().view()) == []


@pytest.mark.parametrize(
    ("changes", "code", "severity", "evidence"),
    [
        ({"min_output_tokens": 100}, "wrong_output_length", "red", {"min_output_tokens": 100, "asked_tokens": 101}),
        ({"max_output_tokens": 102}, "wrong_output_length", "red", {"max_output_tokens": 102}),
        ({"num_ok": 3, "error": "HTTP 500"}, "wrong_output_length", "red", {"num_ok": 3, "num_requests": 4}),
        ({"num_ok": 3, "num_requests": 3}, "wrong_output_length", "red", {"num_requests": 3}),
        ({"cached_tokens": 5}, "unexpected_cache_hits", "red", {"cached_tokens": 5, "prompt_tokens": 4000}),
        ({"num_retractions": 1}, "retracted", "red", {"num_retractions": 1}),
        ({"prompt_tokens": 4004}, "wrong_prompt_length", "warn", {"prompt_tokens": 4004, "asked_tokens": 4000}),
        ({"longest_gap_s": 0.4}, "stall", "warn", {"longest_gap_s": 0.4}),
    ],
)
def test_single_passes(changes: dict[str, object], code: str, severity: str, evidence: dict[str, float]) -> None:
    finding = _only(perf_findings(whole_ledger(perf=_change_pass(**changes)).view()), code)
    assert (finding.severity, finding.scope, finding.target, finding.key) == (severity, "unit", "alpha", KEY)
    assert finding.evidence.items() >= (evidence | {"batch_size": 4, "repeat": 1, "launch": 0}).items()


@pytest.mark.parametrize(
    "changes",
    [
        {"cached_tokens": 4},  # exactly 0.1% of 4,000
        {"longest_gap_s": 0.06},  # over 5% of the latency, but not 10 steps
        {"longest_gap_s": None},
        {"longest_gap_s": 0.2, "first_ttft_s": 0.0},  # the others' prompts were being read
    ],
)
def test_thresholds_are_not_findings(changes: dict[str, object]) -> None:
    assert perf_findings(whole_ledger(perf=_change_pass(**changes)).view()) == []


def test_wrong_output_length_names_the_servers_error() -> None:
    finding = perf_findings(whole_ledger(perf=_change_pass(num_ok=0, error="HTTP 503 busy")).view())[0]
    assert "HTTP 503 busy" in finding.advice


def test_cold_start_says_the_numbers() -> None:
    finding = _only(perf_findings(whole_ledger(perf=_change(flat=False)).view()), "cold_start")
    assert finding.severity == "warn"
    assert finding.evidence["num_warm_up_passes"] == 2
    assert finding.evidence["change_fraction"] == 0
    assert {"last_warm_up_latency_s", "previous_warm_up_latency_s", "measured_latency_s"} <= finding.evidence.keys()
    assert "time to first token" in finding.rule
    assert finding.evidence["last_warm_up_ttft_s"] == finding.evidence["previous_warm_up_ttft_s"]


def test_first_tokens_that_come_together_make_ttft_late() -> None:
    size = next(unit.load.batch_size for unit in whole_ledger().plan.units if unit.key == KEY and unit.kind == "perf")
    coarse = _change_pass(first_chunk_tokens=16 * size)
    finding = _only(perf_findings(whole_ledger(perf=coarse).view()), "late_first_token")
    assert (finding.severity, finding.key, finding.evidence["first_chunk_tokens"]) == ("warn", KEY, 16)
    for fine in (size, None):
        assert perf_findings(whole_ledger(perf=_change_pass(first_chunk_tokens=fine)).view()) == []


def test_no_warm_up_is_cold() -> None:
    finding = _only(perf_findings(whole_ledger(perf=_change(flat=True, warm_up=())).view()), "cold_start")
    assert finding.evidence["num_warm_up_passes"] == 0


def _hot(*reasons: str) -> tuple[GpuSummary, ...]:
    return (GpuSummary(index=3, max_temperature_c=91.0, throttle_reasons=reasons),)


@pytest.mark.parametrize(
    ("changes", "code", "evidence"),
    [
        ({"client_cpu_fraction": 0.81}, "client_saturated", {"max_client_cpu_fraction": 0.81, "num_units": 1}),
        ({"engines_on_host": 2}, "shared_host", {"max_engines_on_host": 2, "num_units": 1}),
        ({"gpus": _hot("hw_thermal_slowdown", "gpu_idle")}, "throttled", {"num_gpus": 1, "max_temperature_c": 91.0}),
    ],
)
def test_whole_targets(changes: dict[str, object], code: str, evidence: dict[str, float]) -> None:
    finding = _only(perf_findings(whole_ledger(perf=_change(**changes)).view()), code)
    assert (finding.severity, finding.scope, finding.target) == ("warn", "target", "alpha")
    assert finding.evidence.items() >= evidence.items()


def test_throttled_names_the_reason_and_power_cap_is_none() -> None:
    finding = perf_findings(whole_ledger(perf=_change(gpus=_hot("hw_thermal_slowdown"))).view())[0]
    assert "hw_thermal_slowdown" in finding.rule
    assert perf_findings(whole_ledger(perf=_change(gpus=_hot("sw_power_cap", "gpu_idle"))).view()) == []


def test_a_broken_pass_is_left_out_of_the_trends() -> None:
    found = perf_findings(whole_ledger(perf=_change_pass(num_ok=0, latency_s=50.0)).view())
    assert [finding.code for finding in found] == ["wrong_output_length"]


# --------------------------------------------------------------------------------------------------------------- trends


def _point(size: int, latencies_s: list[float], ttfts_s: list[float], itls_ms: list[float] | None = None) -> Point:
    itls = itls_ms or [10.0] * len(latencies_s)
    rows = zip(latencies_s, ttfts_s, itls, strict=True)
    return Point("t", "s", size, 4096, tuple(Repeat(f"k{i}", i, 0, *row) for i, row in enumerate(rows)))


def _codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_outlier_is_the_one_far_from_the_others() -> None:
    found = repeat_findings(_point(2, [4.0, 4.5, 4.02], [0.1, 0.1, 0.1]))
    assert _codes(found) == ["outlier_repeat"]
    assert (found[0].key, found[0].evidence["repeat"]) == ("k1", 1)


def test_a_stalled_prefill_is_an_outlier_though_the_latency_hides_it() -> None:
    # The size of the stall at batch 2 in the published B200 table: 0.27 s of 4.76 s.
    found = repeat_findings(_point(2, [4.49, 4.76, 4.49], [0.265, 0.535, 0.265]))
    assert [(f.code, f.key) for f in found] == [("outlier_repeat", "k1")]


@pytest.mark.parametrize(
    ("latencies_s", "codes"),
    [
        ([4.0, 4.5], ["noisy"]),  # of two nobody can say which is wrong
        ([4.0, 4.39], []),
        ([4.0], []),
        ([3.0, 4.0, 5.0, 3.9, 4.1], ["outlier_repeat", "outlier_repeat"]),
        ([3.8, 4.0, 4.25, 4.0], ["noisy"]),
        ([4.0, 5.0, 6.0], ["noisy"]),  # all lie alone
    ],
)
def test_spread(latencies_s: list[float], codes: list[str]) -> None:
    assert _codes(repeat_findings(_point(2, latencies_s, [0.1] * len(latencies_s)))) == codes


@pytest.mark.parametrize(
    ("ttfts_s", "codes"),
    [
        ([0.2, 0.35, 0.6], ["noisy"]),  # the decode hides it: the latencies agree
        ([0.2, 0.26], ["noisy"]),
        ([0.02, 0.03, 0.04], []),  # of 1 s that is clock grain
        ([0.2, 0.215], []),
    ],
)
def test_a_prefill_that_varies_is_noisy(ttfts_s: list[float], codes: list[str]) -> None:
    assert _codes(repeat_findings(_point(2, [1.0] * len(ttfts_s), ttfts_s))) == codes


def test_no_decrease_within_two_percent_or_within_the_spread() -> None:
    assert monotonic_findings([_point(1, [1.0], [0.101]), _point(2, [1.0], [0.1])]) == []
    wide = [_point(1, [1.0, 1.0, 1.0], [0.09, 0.12, 0.13]), _point(2, [1.0, 1.0, 1.0], [0.1, 0.1, 0.1])]
    assert monotonic_findings(wide) == []


def test_a_dip_is_found_over_a_point_without_times() -> None:
    gap = Point("t", "s", 2, 4096, (Repeat("k", 0, 0, 1.0, None, None),))
    found = monotonic_findings([_point(4, [1.0], [0.1]), gap, _point(1, [1.0], [0.2])])
    assert [(f.code, f.evidence["batch_size"], f.evidence["larger_batch_size"]) for f in found] == [
        ("ttft_not_monotonic", 1, 4)
    ]


def test_trends_reach_the_findings_of_a_run() -> None:
    def slow_first(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        if unit.load.batch_size != 1 or unit.target != "alpha":
            return result
        slow: Pass = result.measured.model_copy(update={"last_ttft_s": 0.9, "latency_s": 2.5})
        return result.model_copy(update={"measured": slow})

    found = perf_findings(whole_ledger(config(evals=[]), perf=slow_first).view())
    assert _codes(found) == ["ttft_not_monotonic", "itl_not_monotonic"]
    assert {finding.target for finding in found} == {"alpha"}


# (batch, latency s, input tok/s, ITL ms) of the published study, 4,096 tokens in.
SEED = {
    "H200": [(1, 6.40, 26385.35, 12.20), (2, 7.00, 31437.49, 13.16), (4, 6.93, 32701.68, 12.56),
             (8, 7.99, 33116.18, 13.68), (16, 9.87, 33772.27, 15.48), (64, 19.32, 34194.00, 22.75)],
    "B200": [(1, 4.00, 26133.71, 7.51), (2, 4.76, 15315.43, 8.26), (4, 5.02, 35009.27, 8.88),
             (8, 5.75, 39924.55, 9.63), (16, 7.23, 40704.06, 10.97), (64, 14.15, 41842.55, 15.39)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [("H200", [("itl_not_monotonic", 2, 4)]), ("B200", [("ttft_not_monotonic", 2, 4)])],
)
def test_both_anomalies_of_the_published_table_are_found(gpu: str, expected: list[tuple[str, int, int]]) -> None:
    points = [_point(b, [latency], [b * 4096 / rate], [itl]) for b, latency, rate, itl in SEED[gpu]]
    found = [f for point in points for f in repeat_findings(point)] + monotonic_findings(points)
    assert [(f.code, f.evidence["batch_size"], f.evidence["larger_batch_size"]) for f in found] == expected


def test_a_row_whose_prefill_stood_still_is_found_in_a_single_shot() -> None:
    # Seen on an H200 with kernels that were not compiled yet: batch 64 at 26,280 tok/s after 82,655 at batch 16.
    rates = [(1, 69134.0), (16, 82655.0), (64, 26280.0)]
    found = prefill_findings([_point(b, [1.0], [b * 4096 / rate]) for b, rate in rates])
    assert _codes(found) == ["prefill_collapse"]
    assert found[0].evidence["batch_size"] == 64
    assert found[0].evidence["input_tok_per_s"] == pytest.approx(26280)
    assert found[0].evidence["smaller_batch_size"] == 16


@pytest.mark.parametrize(("gpu", "expected"), [("H200", []), ("B200", [2])])
def test_prefill_of_the_published_tables(gpu: str, expected: list[int]) -> None:
    points = [_point(b, [latency], [b * 4096 / rate], [itl]) for b, latency, rate, itl in SEED[gpu]]
    assert [finding.evidence["batch_size"] for finding in prefill_findings(points)] == expected


def test_the_stall_of_the_published_table_in_numbers() -> None:
    points = [_point(b, [latency], [b * 4096 / rate], [itl]) for b, latency, rate, itl in SEED["B200"]]
    evidence = monotonic_findings(points)[0].evidence
    assert evidence["ttft_s"] == pytest.approx(0.535, abs=5e-4)
    assert evidence["larger_ttft_s"] == pytest.approx(0.468, abs=5e-4)
