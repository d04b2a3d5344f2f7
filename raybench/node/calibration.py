"""The client's own error on this machine, measured once for each number of streams; kept as long as the node lives."""

import os
from collections.abc import Callable, Iterable, Iterator

from raybench.client.job import AnyLine, CalibrationJob, CalibrationLine, ClientDone
from raybench.client.serve import max_processes, num_processes
from raybench.records import LoadRoute
from raybench.records.calibration import Calibration

LIMIT_S = 300.0
MAX_STREAMS = 2048
"""More are taken to be as many: a mock of more would be the limit itself."""

Lines = Callable[[CalibrationJob, float], Iterator[AnyLine]]
"""Runs a job of the client."""


class Calibrations:
    """What was measured on this node."""

    def __init__(self) -> None:
        self._found: dict[tuple[LoadRoute, int], Calibration | None] = {}

    def at(self, streams: int, route: LoadRoute, lines: Lines) -> Calibration | None:
        """The error at so many streams, rounded up to a power of two; None if it could not be measured."""
        wanted = min(1 << (max(streams, 1) - 1).bit_length(), MAX_STREAMS)
        if (route, wanted) not in self._found:
            job = CalibrationJob(streams=wanted, route=route, max_processes=max_processes(_num_cpus()))
            self._found[route, wanted] = _result(lines(job, LIMIT_S))
        return self._found[route, wanted]


def processes_for(calibration: Calibration | None, streams: int) -> int:
    """Client processes for a load: as many as held in the calibration, else as many as were tried last."""
    if calibration is None:
        return num_processes(streams, _num_cpus())
    points = calibration.at(min(streams, MAX_STREAMS))
    return points[0].num_processes if points else num_processes(streams, _num_cpus())


def _result(lines: Iterable[AnyLine]) -> Calibration | None:
    found: Calibration | None = None
    for line in lines:
        if isinstance(line, CalibrationLine):
            found = line.result
        elif isinstance(line, ClientDone) and line.error is not None:
            return None
    return found


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0))
