"""Calibration: what is compared, that an error shows and a good run is silent. Times are compared, never bounded."""

from dataclasses import replace

import numpy as np
import pytest

from raybench.client.calibrate import MockShape, calibrate, closed_loop, compared, measure, turnovers
from raybench.client.columns import LoadColumns
from raybench.client.execute import ExecutorSettings, LoadRun
from raybench.client.mock import Mock, MockTruth
from raybench.client.planned import CHAT, COMPLETIONS, GENERATE
from raybench.client.workers import run_load
from raybench.records.calibration import CalibratedQuantity, Calibration, CalibrationPoint
from raybench.validity.client import calibration_findings

SHAPE = MockShape(ttft_s=0.01, itl_s=0.002, output_tokens=6)
STREAMS = 4


@pytest.fixture(scope="module")
def measured() -> tuple[LoadRun, MockTruth]:
    with Mock(ttft_s=SHAPE.ttft_s, itl_s=SHAPE.itl_s) as mock:
        run = run_load(closed_loop(STREAMS, 5, SHAPE), ExecutorSettings(mock.url, num_connections=STREAMS))
        return run, mock.truth()


def exact(run: LoadRun, truth: MockTruth) -> LoadColumns:
    """Columns of a client that says exactly what the mock logged."""
    order = np.argsort(truth.rids)
    emitted = np.split(truth.emitted_ns, truth.starts[1:-1])
    read_ns = np.concatenate([emitted[place] for place in order])
    first_ns = np.array([emitted[place][0] for place in order])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(truth.starts)[order])])
    ones = np.ones(len(read_ns), np.int64)
    return replace(
        run.columns,
        sent_ns=truth.arrived_ns[order],
        first_ns=first_ns,
        starts=starts,
        read_ns=read_ns,
        read_tokens=ones,
    )


def point(columns: LoadColumns, run: LoadRun, truth: MockTruth) -> CalibrationPoint:
    return compared(LoadRun(columns, run.processes), truth, STREAMS, "ticks", SHAPE)


def test_a_client_that_says_the_truth_has_no_error(measured: tuple[LoadRun, MockTruth]) -> None:
    run, truth = measured
    found = point(exact(run, truth), run, truth)
    assert found.ttft_mean_s.error == found.ttft_p99_s.error == found.gap_p99_s.error == 0
    assert found.worst_ttft_error_s == 0
    assert found.excesses == ()
    assert (found.num_requests, found.num_failed, found.peak_streams) == (STREAMS * 4, 0, STREAMS)


def test_errors_of_every_kind_show(measured: tuple[LoadRun, MockTruth]) -> None:
    run, truth = measured
    true = exact(run, truth)
    late = point(replace(true, first_ns=true.first_ns + 5_000_000), run, truth)
    assert late.excesses == ("mean TTFT off by +5.0 ms", "p99 TTFT off by +5.0 ms")
    one = true.first_ns.copy()
    one[-1] += 40_000_000
    assert "p99 TTFT" in "; ".join(point(replace(true, first_ns=one), run, truth).excesses)
    gap = true.read_ns.copy()
    gap[-1] += 1_000_000_000
    assert {text.split(" off")[0] for text in point(replace(true, read_ns=gap), run, truth).excesses} == {
        "p99 gap",
        "throughput",
    }
    failed = true.status.copy()
    failed[-1] = 3
    assert "1 requests failed" in point(replace(true, status=failed), run, truth).excesses
    assert point(true, run, replace(truth, peak_streams=3)).excesses == ("the server saw 3 streams",)


@pytest.mark.parametrize("route", [GENERATE, CHAT, COMPLETIONS])
@pytest.mark.parametrize("pattern", ["ticks", "steps"])
def test_the_mock_streams_what_it_is_told(route: str, pattern: str) -> None:
    shape = replace(SHAPE, route=route, chunk_tokens=4)
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s, chunk_tokens=4, pattern=pattern) as mock:
        columns = run_load(closed_loop(2, 3, shape), ExecutorSettings(mock.url, num_connections=2)).columns
        truth = mock.truth()
        mock.reset()
        assert mock.truth().num_tokens == 0
    assert set(columns.status) == {0}
    assert (columns.output_tokens == 6).all()
    assert (columns.input_tokens == 128).all()
    assert truth.num_tokens == 36
    assert np.diff(truth.starts).tolist() == [2] * 6
    # Chunks of 4 and 2, however many of them one read brought.
    assert {tuple(part.tolist()) for part in np.split(columns.read_tokens, columns.starts[1:-1])} <= {(4, 2), (6,)}
    if pattern == "steps":
        # A step is a moment of the whole mock: no first token is earlier than asked, and each waits for its step.
        first_ns = truth.emitted_ns[truth.starts[:-1]]
        assert (first_ns - truth.arrived_ns >= 10_000_000).all()
        assert (first_ns % 8_000_000 < (first_ns - truth.arrived_ns)).all()


def test_more_processes_are_tried_where_fewer_do_not_hold() -> None:
    told: list[CalibrationPoint] = []
    found = calibrate([2], ("ticks",), SHAPE, 2, told.append)
    assert told == list(found.points)
    first = found.points[0]
    assert first.num_processes == 1
    assert [point.num_processes for point in found.points[1:]] == ([2] if first.excesses else [])
    assert found.output_tokens == 6


def test_a_point_in_two_processes() -> None:
    found = measure(4, "steps", SHAPE, 2)
    assert (found.num_processes, found.num_failed, found.peak_streams) == (2, 0, 4)


def test_turnovers() -> None:
    assert [turnovers(streams) for streams in (1, 32, 48, 1024)] == [8, 6, 4, 4]


def pair(said: float, true: float) -> CalibratedQuantity:
    return CalibratedQuantity(said=said, true=true)


def synthetic(streams: int, num_processes: int, error_s: float) -> CalibrationPoint:
    return CalibrationPoint(
        streams=streams, pattern="steps", num_processes=num_processes, num_requests=100, num_failed=0,
        peak_streams=streams, ttft_mean_s=pair(0.05 + error_s, 0.05), ttft_p99_s=pair(0.06 + error_s, 0.06),
        gap_mean_s=pair(0.01, 0.01), gap_p99_s=pair(0.011, 0.011), tok_per_s=pair(1000, 1000),
        worst_ttft_error_s=error_s,
    )  # fmt: skip


def calibration(*points: CalibrationPoint) -> Calibration:
    return Calibration(
        client_version="0", num_cpus=2, ttft_s=0.05, itl_s=0.01, output_tokens=64, route=GENERATE, points=points,
        started_unix_s=0, duration_s=1,
    )  # fmt: skip


def test_the_number_of_processes_comes_from_the_calibration() -> None:
    found = calibration(
        synthetic(64, 1, 0.0001), synthetic(256, 1, 0.01), synthetic(256, 2, 0.0001),
        synthetic(1024, 2, 0.2), synthetic(1024, 4, 0.1),
    )  # fmt: skip
    assert [found.processes_for(streams) for streams in (1, 64, 65, 256, 257, 1024, 1025)] == [
        1,
        1,
        2,
        2,
        None,
        None,
        None,
    ]
    assert [point.num_processes for point in found.at(1000)] == [4]
    assert found.at(2000) == ()


def test_the_finding_says_how_far_off_and_is_silent_where_it_holds() -> None:
    found = calibration(synthetic(64, 1, 0.0001), synthetic(256, 1, 0.01))
    assert calibration_findings(found, 64, "t", "k") == []
    [bad] = calibration_findings(found, 200, "t", "k")
    assert (bad.code, bad.severity, bad.evidence["calibrated_streams"]) == ("client_error", "warn", 256)
    assert bad.evidence["ttft_mean_error_s"] == pytest.approx(0.01)
    for nothing in (None, found):
        [unknown] = calibration_findings(nothing, 1000, "t", "k")
        assert (unknown.code, unknown.severity) == ("not_calibrated", "info")


@pytest.mark.parametrize(
    ("true_s", "error_s", "flagged"), [(0.05, 0.0019, 0), (0.05, 0.0021, 1), (0.5, 0.009, 0), (0.5, 0.011, 1)]
)
def test_the_bound_is_the_larger_of_two_percent_and_two_milliseconds(
    true_s: float, error_s: float, flagged: int
) -> None:
    base = synthetic(8, 1, 0.0)
    for sign in (1, -1):
        found = base.model_copy(update={"ttft_mean_s": pair(true_s + sign * error_s, true_s)})
        assert len(found.excesses) == flagged
