"""The client's own error on this machine, measured once for each version of the client and number of streams.

What is measured becomes a record of the ledger, so a resumed run, or a node that takes the place of a lost one on the
same machine, measures nothing twice.
"""

import os
from collections.abc import Callable, Iterable, Iterator

from raybench import __version__
from raybench.client.job import AnyLine, CalibrationJob, CalibrationLine, ClientDone
from raybench.client.serve import max_processes, num_processes
from raybench.records import LoadRoute
from raybench.records.calibration import Calibration
from raybench.records.units import LOAD_PATHS

LIMIT_S = 300.0
LEVELS = (4, 16, 64, 256, 1024, 2048)
"""Numbers of streams that are measured; a load is held against the next larger one. A level takes about ten seconds,
for which the engine waits. More streams than the last are taken to be as many: a mock of more would be the limit."""
MAX_STREAMS = LEVELS[-1]

Lines = Callable[[CalibrationJob, float], Iterator[AnyLine]]
"""Runs a job of the client."""


class Calibrations:
    """What was measured on this machine."""

    def __init__(self, host: str, known: Iterable[Calibration] = ()) -> None:
        """`known`: from the ledger; those of other machines, versions or CPUs say nothing of this client."""
        self._host = host
        self._found: dict[tuple[str, int], Calibration | None] = {}
        for one in known:
            if (one.host, one.client_version, one.num_cpus) == (host, __version__, _num_cpus()):
                self._found |= {(one.route, point.streams): one for point in one.points}

    def known(self, streams: int, route: LoadRoute) -> bool:
        """True if it was measured at so many streams, or cannot be."""
        return (LOAD_PATHS[route], level(streams)) in self._found

    def at(self, streams: int, route: LoadRoute, lines: Lines) -> Calibration | None:
        """The error at so many streams, or at the next larger level; None if it could not be measured."""
        wanted = (LOAD_PATHS[route], level(streams))
        if wanted not in self._found:
            job = CalibrationJob(streams=level(streams), route=route, max_processes=max_processes(_num_cpus()))
            found = _result(lines(job, LIMIT_S))
            self._found[wanted] = found and found.model_copy(update={"host": self._host})
        return self._found[wanted]


def level(streams: int) -> int:
    """Number of streams that is measured for a load of so many."""
    return next((one for one in LEVELS if one >= streams), MAX_STREAMS)


def words(found: Calibration | None) -> str:
    """What was found, in a line for the screen."""
    point = None if found is None else found.worst(1)
    if point is None:
        return "not measured: the mock could not be run"
    said = ", ".join(point.excesses) or (
        f"TTFT {1e3 * point.ttft_mean_s.error:+.2f} ms (p99 {1e3 * point.ttft_p99_s.error:+.2f} ms), p99 gap "
        f"{1e3 * point.gap_p99_s.error:+.2f} ms, throughput {point.tok_per_s.error_fraction:+.2%}"
    )
    return f"{said}, with {point.num_processes} client process{'es' if point.num_processes > 1 else ''}"


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
