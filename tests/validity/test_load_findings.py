"""Every finding about serving loads, made to happen, and none on a sound run."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from calibrations import calibrated_point, calibration
from load_ledgers import CLOSED, OPEN, SEARCH, sampled, serving_config, serving_ledger
from load_runs import MS, failing

from raybench.load.schedule import Schedule
from raybench.load.schedules import schedule_of
from raybench.records import EngineFacts, Finding, LoadMeasurement, LoadUnit
from raybench.records.client import ClientProcess
from raybench.records.loads import ClosedLoad, OpenLoad
from raybench.records.serving import ClientSide, ServerSide
from raybench.stats.latency import LoadRun
from raybench.validity.load import load_findings
from raybench.validity.load_trends import load_trend_findings

RunChange = Callable[[LoadUnit, LoadRun], LoadRun]


def _mine(unit: LoadUnit) -> bool:
    """The one run that a test changes."""
    load = unit.load
    return unit.target == "alpha" and unit.repeat == 0 and isinstance(load, ClosedLoad) and load.concurrency == 8


def _findings(*sweeps: object, **changes: object) -> list[Finding]:
    view = serving_ledger(serving_config(*(sweeps or (CLOSED,))), **changes).view()  # type: ignore[arg-type]
    return [*load_findings(view), *load_trend_findings(view)]


def _columns(**columns: Callable[[LoadRun], np.ndarray]) -> RunChange:
    def change(unit: LoadUnit, run: LoadRun) -> LoadRun:
        if not _mine(unit):
            return run
        return replace(run, columns=replace(run.columns, **{name: make(run) for name, make in columns.items()}))

    return change


def _told(**changes: object) -> Callable[[LoadUnit, LoadMeasurement], LoadMeasurement]:
    return lambda unit, found: found.model_copy(update=changes) if _mine(unit) else found


def _only(findings: list[Finding], code: str, severity: str) -> Finding:
    assert [finding.code for finding in findings] == [code]
    assert findings[0].severity == severity
    if findings[0].scope == "unit":
        assert findings[0].target == "alpha"
    return findings[0]


def test_sound_runs_have_no_finding() -> None:
    assert _findings(CLOSED, {**OPEN, "duration_s": 120}) == []  # type: ignore[dict-item]


def test_a_search_that_goes_beyond_the_limit_has_notes_only() -> None:
    found = _findings(SEARCH)
    assert {finding.code for finding in found} <= {"overloaded"}
    assert {finding.severity for finding in found} <= {"info"}


@pytest.mark.parametrize(
    ("status", "severity", "words"),
    [
        (400, "red", "Someone else's requests"),
        (404, "warn", "/flush_cache gave HTTP 404"),
        (None, "warn", "/flush_cache gave no whole answer"),
    ],
)
def test_a_server_that_was_not_idle_or_could_not_say(status: int | None, severity: str, words: str) -> None:
    found = _only(_findings(change=_told(drained=False, flush_status=status)), "not_idle", severity)
    assert words in found.advice
    assert found.evidence.get("http_status") == status
    assert found.evidence["concurrency"] == 8


def test_a_server_that_was_idle_and_one_that_was_not_asked() -> None:
    assert _findings(change=_told(drained=True)) == []
    assert _findings(change=_told(drained=None)) == []


def test_a_probe_on_a_busy_server_is_a_warning_as_the_search_throws_it_away() -> None:
    found = _findings(SEARCH, change=lambda unit, one: one.model_copy(update={"drained": False, "flush_status": 400}))
    assert {finding.severity for finding in found if finding.code == "not_idle"} == {"warn"}


def test_replies_of_the_wrong_length() -> None:
    def shorter(run: LoadRun) -> np.ndarray:
        lengths = run.columns.output_tokens.copy()
        lengths[30] -= 1
        return lengths

    found = _only(_findings(run=_columns(output_tokens=shorter)), "wrong_output_length", "red")
    assert found.evidence["num_wrong_length"] == 1
    assert found.evidence["concurrency"] == 8


def test_a_silent_stream_is_a_failure() -> None:
    def silent(run: LoadRun) -> np.ndarray:
        first = run.columns.first_ns.copy()
        first[30] = -1
        return first

    found = _only(_findings(run=_columns(first_ns=silent)), "wrong_output_length", "red")
    assert found.evidence["num_without_token"] == 1


def test_failed_requests_from_one_in_a_hundred_on() -> None:
    def some(places: list[int]) -> RunChange:
        return lambda unit, run: failing(run, places) if _mine(unit) else run

    one = _only(_findings(run=some([50])), "requests_failed", "info")
    assert (one.evidence["num_failed"], one.evidence["num_http_error"]) == (1, 1)
    assert _findings() == []
    found = _only(_findings(run=some([50, 51, 60])), "wrong_output_length", "red")
    assert found.evidence["num_failed"] == 3


def test_cache_hits_that_nobody_meant() -> None:
    def cached(run: LoadRun) -> np.ndarray:
        return run.columns.cached_tokens + 2

    found = _only(_findings(run=_columns(cached_tokens=cached)), "unexpected_cache_hits", "red")
    assert found.evidence["meant_tokens"] == 0


def test_shared_beginnings_are_meant_and_missed() -> None:
    shared = {**CLOSED, "prefix": {"tokens": 200, "groups": 2}}  # type: ignore[dict-item]
    assert _findings(shared) == []
    nothing = _columns(cached_tokens=lambda run: run.columns.cached_tokens * 0)
    found = _only(_findings(shared, run=nothing), "prefix_not_cached", "warn")
    assert found.evidence["cached_tokens"] == 0


def test_retractions_by_the_replies_and_by_the_server() -> None:
    def one(run: LoadRun) -> np.ndarray:
        numbers = run.columns.retractions.copy()
        numbers[3] = 1
        return numbers

    _only(_findings(run=_columns(retractions=one)), "retracted", "red")
    _only(_findings(change=_told(server=ServerSide(num_samples=9, num_retracted=2))), "retracted", "red")
    assert _findings(change=_told(server=ServerSide(num_samples=9, num_retracted=0))) == []


def test_a_rate_above_the_capacity() -> None:
    found = _findings({**OPEN, "rates": [60]})  # type: ignore[dict-item]
    assert {(f.code, f.severity, f.target) for f in found} >= {
        ("overloaded", "warn", "alpha"),
        ("overloaded", "warn", "beta"),
    }
    assert all(f.evidence["rate_per_s"] == 60 for f in found)


def test_a_run_that_the_client_ended() -> None:
    found = _only(_findings(change=_told(stopped_early="overload: it only grew")), "overloaded", "warn")
    assert "it only grew" in found.advice


def test_too_short_and_too_few() -> None:
    found = _findings({**CLOSED, "turnovers": 3, "concurrency": [2]})  # type: ignore[dict-item]
    assert {(f.code, f.severity) for f in found} == {("short_window", "warn"), ("too_few_samples", "info")}


def test_a_slow_start() -> None:
    def slow(run: LoadRun) -> np.ndarray:
        early = run.columns.sent_ns < run.columns.end_ns.max() // 4
        return np.where(early, run.columns.first_ns + 200 * MS, run.columns.first_ns)

    found = _only(_findings(run=_columns(first_ns=slow)), "warmup_contaminated", "warn")
    assert found.evidence["early_ttft_ratio"] > 1.5


def test_lockstep_of_equal_requests() -> None:
    def together(unit: LoadUnit, run: LoadRun) -> LoadRun:
        if not _mine(unit):
            return run
        from load_runs import played

        plain = schedule_of(unit.load, 1, 2)
        return played(Schedule(tuple(replace(r, output_tokens=60) for r in plain.requests), 8), 60, 12)

    _only(_findings(run=together), "lockstep", "warn")


@pytest.mark.parametrize(
    ("client", "severity"),
    [
        (ClientSide(max_cpu_fraction=0.85), "warn"),
        (ClientSide(lag_p99_s=0.04), "warn"),
        (ClientSide(max_cpu_fraction=0.95), "red"),
        (ClientSide(lag_p99_s=0.06), "red"),
    ],
)
def test_a_client_that_is_the_limit(client: ClientSide, severity: str) -> None:
    _only(_findings(change=_told(client=client)), "client_saturated", severity)


def test_a_client_that_sends_a_tenth_of_a_second_late_is_the_limit_of_an_overload() -> None:
    one = ClientProcess(process=0, num_sent=9, num_reads=9, lateness_p99_s=0.2, started_unix_s=0, duration_s=1)
    found = _only(_findings(change=_told(client=ClientSide(processes=(one,)))), "client_saturated", "red")
    assert found.evidence["lateness_p99_ms"] == pytest.approx(200)


def _late(by_ms: int) -> RunChange:
    def late(run: LoadRun) -> np.ndarray:
        return np.where(run.columns.scheduled_ns >= 0, run.columns.scheduled_ns - by_ms * MS, run.columns.scheduled_ns)

    return _columns(scheduled_ns=late)


def test_a_client_that_pauses_between_an_answer_and_the_next_request() -> None:
    found = _only(_findings(run=_late(60)), "schedule_late", "warn")
    assert found.evidence["lateness_p99_ms"] == pytest.approx(60)
    assert "pauses" in found.advice
    # A millisecond more of thinking, next to answers of more than a second, changes nothing.
    assert _findings(run=_late(5)) == []


def test_a_client_that_is_behind_its_schedule() -> None:
    def late(unit: LoadUnit, run: LoadRun) -> LoadRun:
        mine = unit.target == "alpha" and unit.repeat == 0 and isinstance(unit.load, OpenLoad)
        mine = mine and unit.load.rate_per_s == 6  # type: ignore[union-attr]
        return (
            replace(run, columns=replace(run.columns, scheduled_ns=run.columns.scheduled_ns - 5 * MS)) if mine else run
        )

    sweep = {**OPEN, "duration_s": 120}  # type: ignore[dict-item]
    found = _only(_findings(sweep, run=late), "schedule_late", "warn")
    assert found.evidence["lateness_p99_ms"] == pytest.approx(5)
    assert "schedule" in found.advice


def test_requests_that_are_neither_running_nor_queued() -> None:
    busy = ServerSide(num_samples=99, mean_running=3.0, mean_queued=0.0)
    found = _only(_findings(change=_told(server=busy)), "frontend_saturated", "warn")
    assert found.evidence["running"] == 3
    assert _findings(change=_told(server=ServerSide(num_samples=99, mean_running=7.0, mean_queued=0.2))) == []


def test_what_a_late_client_holds_back_is_not_the_servers_front_end() -> None:
    def mine(unit: LoadUnit) -> bool:
        return unit.target == "alpha" and isinstance(unit.load, OpenLoad) and unit.load.rate_per_s == 6

    def late(unit: LoadUnit, run: LoadRun) -> LoadRun:
        columns = run.columns
        return (
            replace(run, columns=replace(columns, scheduled_ns=columns.scheduled_ns - 1000 * MS)) if mine(unit) else run
        )

    def found(running: float) -> list[Finding]:
        # Six requests a second wait a second each in the client; about four and a half are in the server.
        server = ServerSide(num_samples=99, mean_running=running, mean_queued=0.0)
        return _findings(
            {**OPEN, "duration_s": 120},  # type: ignore[dict-item]
            run=late,
            change=lambda unit, one: one.model_copy(update={"server": server}) if mine(unit) else one,
        )

    assert {finding.code for finding in found(4.5)} == {"schedule_late"}
    (finding,) = [finding for finding in found(0.5) if finding.code == "frontend_saturated"]
    assert finding.evidence["not_sent_yet"] == pytest.approx(6, rel=0.2)
    assert finding.evidence["under_way"] > 8


def test_users_that_only_wait() -> None:
    waiting = ServerSide(num_samples=99, mean_running=5.0, mean_queued=3.0, max_kv_fraction=0.99)
    found = _only(_findings(change=_told(server=waiting)), "queue_not_concurrency", "info")
    assert found.evidence["max_kv_fraction"] == 0.99


def test_users_beyond_what_the_engine_says_it_can_run() -> None:
    def small(facts: EngineFacts) -> EngineFacts:
        tokens = 7 * 560 if facts.target == "alpha" else 2_000_000
        return facts.model_copy(update={"max_total_tokens": tokens})

    found = _findings(engine=small)
    assert {(f.code, f.target, f.evidence["concurrency"]) for f in found} == {("queue_not_concurrency", "alpha", 8)}
    assert found[0].evidence["capacity"] in (6, 7)


def test_decode_steps_without_graphs() -> None:
    half = ServerSide(num_samples=99, decode_graph_fraction=0.5, max_running=8)
    found = _only(_findings(change=_told(server=half)), "decode_outside_graph", "warn")
    assert found.evidence["max_running"] == 8


def test_client_and_server_count_differently() -> None:
    looks = sampled(*((t / 4, 8.0, 0.0) for t in range(200)))
    server = ServerSide(num_samples=200, output_tok_per_s=1.0, samples=looks)
    found = _only(_findings(change=_told(server=server)), "counts_differ", "warn")
    assert found.evidence["difference_fraction"] > 1

    def told(every_s: float) -> list[Finding]:
        looks = sampled(*((t * every_s, 8.0, 0.0) for t in range(round(50 / every_s))))
        tok_per_s = found.evidence["client_output_tok_per_s"] / 1.08
        return _findings(
            change=_told(server=ServerSide(num_samples=len(looks), output_tok_per_s=tok_per_s, samples=looks))
        )

    assert [finding.code for finding in told(0.25)] == ["counts_differ"]
    # Of few looks the first and the last decide what lies between them.
    assert told(2) == []


def test_kernels_without_a_tuned_configuration() -> None:
    def untuned(facts: EngineFacts) -> EngineFacts:
        return facts.model_copy(update={"untuned_kernels": ("E=128,N=1536.json",) if facts.target == "alpha" else ()})

    found = _only(_findings(engine=untuned), "untuned_kernels", "warn")
    assert "E=128,N=1536.json" in found.advice


def test_a_wait_that_falls_as_the_load_grows() -> None:
    def slow(unit: LoadUnit, run: LoadRun) -> LoadRun:
        if unit.target != "alpha" or not isinstance(unit.load, ClosedLoad) or unit.load.concurrency != 6:
            return run
        return replace(run, columns=replace(run.columns, first_ns=run.columns.first_ns + 50 * MS))

    found = _findings({**CLOSED, "turnovers": 60}, run=slow)  # type: ignore[dict-item]
    finding = _only(found, "ttft_not_monotonic", "warn")
    assert finding.evidence["larger_load"] == 8


def test_a_probe_of_a_search_may_fail_without_making_the_run_invalid() -> None:
    def failed(unit: LoadUnit, run: LoadRun) -> LoadRun:
        rate = unit.load.rate_per_s if isinstance(unit.load, OpenLoad) else 0
        return failing(run, list(range(20))) if rate > 10 else run

    found = _findings(SEARCH, run=failed)
    assert {f.severity for f in found if f.code == "wrong_output_length"} == {"warn"}


def test_the_clients_own_error_at_as_many_streams() -> None:
    known = calibration(calibrated_point(16, 1, error_s=0.02), calibrated_point(16, 2), host="boot-0")
    assert _findings(change=_told(streams=8), calibrations=[known]) == []
    bad = calibration(calibrated_point(16, 1, error_s=0.02), host="boot-0")
    found = _only(_findings(change=_told(streams=8), calibrations=[bad]), "client_error", "warn")
    assert found.evidence["ttft_p99_error_s"] == pytest.approx(0.02)
    assert found.evidence["concurrency"] == 8
    _only(_findings(change=_told(streams=8)), "not_calibrated", "info")
    # Of another machine, of another route, of fewer streams.
    elsewhere = calibration(calibrated_point(16, 1), host="boot-1")
    by_chat = elsewhere.model_copy(update={"host": "boot-0", "route": "/v1/chat/completions"})
    fewer = calibration(calibrated_point(4, 1), host="boot-0")
    found = _only(
        _findings(change=_told(streams=8), calibrations=[elsewhere, by_chat, fewer]), "not_calibrated", "info"
    )
    # The nearest level counts, and of that the last measurement.
    far = calibration(calibrated_point(64, 1, error_s=0.02), host="boot-0")
    assert _findings(change=_told(streams=8), calibrations=[far, bad, known, far]) == []
    assert _findings(change=_told(streams=8, simulated=True)) == []


def test_a_ramp_is_meant_to_fill_the_server() -> None:
    ramp = {
        "name": "up", "load": "ramp", "start_rate": 1, "end_rate": 10, "duration_s": 90, "input_tokens": 500,
        "output_tokens": 60,
    }  # fmt: skip
    assert _findings(ramp) == []
