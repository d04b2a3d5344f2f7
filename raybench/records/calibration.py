"""What the load client's own error is on a machine, measured against a server of known truth."""

from typing import Literal

from pydantic import Field

from raybench.records.base import Record

Pattern = Literal["ticks", "steps"]

MAX_ERROR_FRACTION = 0.02
MAX_ERROR_S = 0.002
"""An error beyond both is too much."""


class CalibratedQuantity(Record):
    """One quantity as the client said it and as it was."""

    said: float
    """By the client."""
    true: float
    """By the log of the server."""

    @property
    def error(self) -> float:
        """Said minus true."""
        return self.said - self.true

    @property
    def error_fraction(self) -> float:
        """Error over truth; 0 where the truth is 0."""
        return self.error / self.true if self.true else 0.0


class CalibrationPoint(Record):
    """One number of streams, one pattern of emission. The first round is left out: streams start one by one."""

    streams: int = Field(ge=1)
    """Users of the closed loop."""
    pattern: Pattern
    """ticks: each stream has a clock of its own. steps: all streams emit at once, as an engine does."""
    num_processes: int = Field(default=1, ge=1)
    """Client processes."""
    num_requests: int
    """Requests that were compared, one by one."""
    num_failed: int
    """Requests of the whole run that did not end well."""
    peak_streams: int
    """Most requests under way at once, by the server."""
    ttft_mean_s: CalibratedQuantity
    """Mean time to first token."""
    ttft_p99_s: CalibratedQuantity
    """Its 99th percentile."""
    gap_mean_s: CalibratedQuantity
    """Mean time between two tokens of a stream; 0 for those that come together."""
    gap_p99_s: CalibratedQuantity
    """Its 99th percentile."""
    tok_per_s: CalibratedQuantity
    """Tokens per second of the whole run."""
    worst_ttft_error_s: float
    """Largest error of a single request, either way."""
    cpu_fraction: float | None = None
    """CPU time over wall time of the busiest client process."""
    tok_per_cpu_s: float | None = None
    """Tokens per second of CPU time, all client processes together."""
    server_late_p99_s: float | None = None
    """How late the server itself was, 99th percentile: a machine that is busy with other things shows it here."""

    @property
    def excesses(self) -> tuple[str, ...]:
        """What is wrong with it, in words; empty = nothing is."""
        times = {"mean TTFT": self.ttft_mean_s, "p99 TTFT": self.ttft_p99_s, "p99 gap": self.gap_p99_s}
        found = [
            f"{name} off by {quantity.error * 1e3:+.1f} ms"
            for name, quantity in times.items()
            if abs(quantity.error) > max(MAX_ERROR_FRACTION * quantity.true, MAX_ERROR_S)
        ]
        if abs(self.tok_per_s.error_fraction) > MAX_ERROR_FRACTION:
            found.append(f"throughput off by {self.tok_per_s.error_fraction:+.1%}")
        if self.num_failed:
            found.append(f"{self.num_failed} requests failed")
        if self.peak_streams < self.streams:
            found.append(f"the server saw {self.peak_streams} streams")
        return tuple(found)


class Calibration(Record):
    """The client's error on a machine: body of a `calibration` record."""

    client_version: str
    """raybench that measured."""
    host: str | None = None
    """Machine that it was measured on (its boot id); None = by hand, which machine was not asked."""
    num_cpus: int
    """CPUs that it was allowed to use, the server's included."""
    ttft_s: float
    """Time to first token that the server was told."""
    itl_s: float
    """Time between tokens that it was told."""
    output_tokens: int
    """Tokens of every reply."""
    route: str
    """Route of the requests."""
    points: tuple[CalibrationPoint, ...]
    """All points, in the order in which they were measured; with more processes where fewer did not hold."""
    started_unix_s: float
    """Wall clock at the start."""
    duration_s: float
    """Wall time."""

    def at(self, streams: int) -> tuple[CalibrationPoint, ...]:
        """Points for a number of streams: of the smallest calibrated number that is not below it, with the number of
        processes that held, or the last one that was tried. Empty = never calibrated so high."""
        enough = [point.streams for point in self.points if point.streams >= streams]
        points = [point for point in self.points if enough and point.streams == min(enough)]
        for num in sorted({point.num_processes for point in points}):
            some = tuple(point for point in points if point.num_processes == num)
            if not any(point.excesses for point in some):
                return some
        return tuple(point for point in points if point.num_processes == points[-1].num_processes)

    def worst(self, streams: int) -> CalibrationPoint | None:
        """Of `at`, the point whose TTFT is farthest off; None = never calibrated so high."""
        return max(self.at(streams), key=lambda point: abs(point.ttft_p99_s.error), default=None)

    def processes_for(self, streams: int) -> int | None:
        """Client processes for so many streams; None if no number of them holds, or if it was never calibrated."""
        points = self.at(streams)
        return points[0].num_processes if points and not any(point.excesses for point in points) else None
