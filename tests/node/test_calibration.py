"""The client's own error on a node: measured once for each number of streams, and turned into processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from calibrations import calibrated_point, calibration

from raybench import __version__
from raybench.client.job import AnyLine, CalibrationJob, CalibrationLine, ClientDone
from raybench.client.serve import num_processes, streams_of
from raybench.node.calibration import MAX_STREAMS, Calibrations, processes_for, words
from raybench.node.clientrun import ClientRun
from raybench.records.loads import ClosedLoad, OpenLoad, RampLoad, TraceLoad


def test_each_number_of_streams_is_measured_once_rounded_up() -> None:
    asked: list[int] = []

    def lines(job: CalibrationJob, limit_s: float) -> Iterator[AnyLine]:
        asked.append(job.streams)
        yield CalibrationLine(result=calibration(calibrated_point(job.streams, 1)))
        yield ClientDone()

    known = Calibrations("host-a")
    for streams in (1, 5, 8, 4, 16, 17, 1_000_000, 8):
        found = known.at(streams, "generate", lines)
        assert found is not None
        assert found.host == "host-a"
    assert asked == [4, 16, 64, MAX_STREAMS]
    known.at(8, "chat", lines)
    assert asked[-1] == 16


def test_what_the_ledger_knows_of_this_client_on_this_machine_is_not_measured_again() -> None:
    asked: list[int] = []

    def lines(job: CalibrationJob, limit_s: float) -> Iterator[AnyLine]:
        asked.append(job.streams)
        yield CalibrationLine(result=calibration(calibrated_point(job.streams, 1)))
        yield ClientDone()

    cpus = len(os.sched_getaffinity(0))
    mine = calibration(calibrated_point(16, 1), host="here", version=__version__, cpus=cpus)
    others = (
        calibration(calibrated_point(64, 1), host="elsewhere", version=__version__, cpus=cpus),
        calibration(calibrated_point(64, 1), host="here", version="older", cpus=cpus),
        calibration(calibrated_point(64, 1), host="here", version=__version__, cpus=cpus + 1),
    )
    known = Calibrations("here", (mine, *others))
    assert known.known(9, "generate")
    assert known.at(9, "generate", lines) == mine
    assert asked == []
    known.at(9, "chat", lines)
    known.at(33, "generate", lines)
    assert asked == [16, 64]


def test_what_is_found_is_said_in_a_line() -> None:
    assert "TTFT +0.00 ms (p99 +0.50 ms)" in words(calibration(calibrated_point(16, 2, error_s=0.0005)))
    assert "2 client processes" in words(calibration(calibrated_point(16, 2)))
    assert words(calibration(calibrated_point(16, 1, error_s=0.02))).startswith("p99 TTFT off by +20.0 ms")
    assert words(None).startswith("not measured")


def test_a_calibration_that_fails_is_none_and_is_not_tried_again() -> None:
    asked: list[int] = []

    def lines(job: CalibrationJob, limit_s: float) -> Iterator[AnyLine]:
        asked.append(job.streams)
        yield ClientDone(error="no mock")

    known = Calibrations("host-a")
    assert known.at(4, "generate", lines) is None
    assert known.at(4, "generate", lines) is None
    assert asked == [4]


def test_a_load_gets_the_processes_that_held() -> None:
    found = calibration(calibrated_point(256, 1, error_s=0.02), calibrated_point(256, 2))
    assert processes_for(found, 200) == 2
    assert processes_for(None, 1) == 1
    assert num_processes(1500, 16) == 3
    assert num_processes(1500, 4) == 1


@pytest.mark.parametrize(
    ("load", "streams"),
    [
        (ClosedLoad(concurrency=12, input_tokens=1, output_tokens=1), 12),
        (OpenLoad(rate_per_s=4, duration_s=9, input_tokens=1, output_tokens=1), 20),
        (RampLoad(start_rate_per_s=0, end_rate_per_s=2, duration_s=9, input_tokens=1, output_tokens=1), 10),
        (TraceLoad(name="t", at_s=(0, 10), input_tokens=(1, 1), output_tokens=(1, 1), speed=2), 2),
    ],
)
def test_streams_of_loads(load: ClosedLoad | OpenLoad | RampLoad | TraceLoad, streams: int) -> None:
    assert streams_of(load) == streams


def test_the_client_process_measures_itself(tmp_path: Path) -> None:
    def lines(job: CalibrationJob, limit_s: float) -> Iterator[AnyLine]:
        run = ClientRun(job, tmp_path, limit_s, "run-of-a-test")
        try:
            yield from run.lines()
        finally:
            run.close()

    found = Calibrations("host-a").at(3, "generate", lines)
    assert found is not None
    points = found.at(3)
    assert points
    assert {point.streams for point in points} == {4}
    assert {point.pattern for point in found.points} == {"ticks", "steps"}
