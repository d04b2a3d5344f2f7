"""Measure the client's own error: a closed loop against the mock, what the client says beside what the mock logged."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raybench import __version__
from raybench.client.columns import OK, LoadColumns
from raybench.client.execute import ExecutorSettings, LoadRun
from raybench.client.mock import Mock, MockTruth
from raybench.client.planned import CHAT, COMPLETIONS, GENERATE, PlannedRequest
from raybench.client.workers import run_load
from raybench.errors import ClientError
from raybench.records.calibration import CalibratedQuantity, Calibration, CalibrationPoint, Pattern

Ints = NDArray[np.int64]
MockRoute = Literal["/generate", "/v1/chat/completions", "/v1/completions"]
Progress = Callable[[CalibrationPoint], None]

NUM_SAMPLES = 192
"""Requests of a point at least, as far as `MAX_TURNOVERS` allows."""
ROUTES: dict[Literal["generate", "chat", "completions"], MockRoute] = {
    "generate": GENERATE,
    "chat": CHAT,
    "completions": COMPLETIONS,
}
"""Paths by the names that a configuration has for them."""
MIN_TURNOVERS, MAX_TURNOVERS = 4, 8
"""Requests that each stream makes; the first is left out."""


@dataclass(frozen=True, slots=True)
class MockShape:
    """What the mock streams."""

    ttft_s: Annotated[float, Field(ge=0)] = 0.05
    """Time to first token."""
    itl_s: Annotated[float, Field(gt=0)] = 0.01
    """Time between tokens."""
    output_tokens: Annotated[int, Field(ge=2)] = 64
    """Tokens of a reply."""
    chunk_tokens: Annotated[int, Field(ge=1)] = 1
    """Tokens of a chunk."""
    input_tokens: Annotated[int, Field(ge=1)] = 128
    """Tokens of a prompt."""
    route: MockRoute = GENERATE
    """Route."""

    @property
    def e2e_s(self) -> float:
        """Time from the arrival of a request to its last token."""
        return self.ttft_s + self.itl_s * (self.output_tokens - 1)


def calibrate(
    streams: Sequence[int], patterns: Sequence[Pattern], shape: MockShape, max_processes: int, progress: Progress
) -> Calibration:
    """Measure every number of streams, with more processes where fewer do not hold. Raises ClientError."""
    started_unix_s, started_s = time.time(), time.monotonic()
    points: list[CalibrationPoint] = []
    num_processes = 1
    for num in sorted(streams):
        while True:
            found = [measure(num, pattern, shape, num_processes) for pattern in patterns]
            for point in found:
                progress(point)
            points += found
            if not any(point.excesses for point in found) or num_processes * 2 > max_processes:
                break
            num_processes *= 2
    return Calibration(
        client_version=__version__, num_cpus=len(os.sched_getaffinity(0)), ttft_s=shape.ttft_s, itl_s=shape.itl_s,
        output_tokens=shape.output_tokens, route=shape.route, points=tuple(points), started_unix_s=started_unix_s,
        duration_s=time.monotonic() - started_s,
    )  # fmt: skip


def measure(streams: int, pattern: Pattern, shape: MockShape, num_processes: int = 1) -> CalibrationPoint:
    """One point. Raises ClientError when nothing can be compared."""
    with Mock(ttft_s=shape.ttft_s, itl_s=shape.itl_s, chunk_tokens=shape.chunk_tokens, pattern=pattern) as mock:
        requests = closed_loop(streams, turnovers(streams), shape)
        run = run_load(requests, ExecutorSettings(mock.url, num_connections=streams), num_processes)
        return compared(run, mock.truth(), streams, pattern, shape)


def turnovers(streams: int) -> int:
    """Requests of each stream."""
    return min(max(-(-NUM_SAMPLES // streams), MIN_TURNOVERS), MAX_TURNOVERS)


def closed_loop(streams: int, rounds: int, shape: MockShape) -> list[PlannedRequest]:
    """Requests of a closed loop whose streams start one by one over the time of a reply."""
    return [
        PlannedRequest(
            index, index / streams * shape.e2e_s if index < streams else None, index % streams,
            mock_body(index, shape), shape.route,
        )
        for index in range(streams * rounds)
    ]  # fmt: skip


def mock_body(index: int, shape: MockShape) -> bytes:
    """A request that the mock logs under its place in the schedule."""
    body: dict[str, object] = {"rid": str(index), "stream": True}
    if shape.route == GENERATE:
        ids = [(index + place) % 1000 for place in range(shape.input_tokens)]
        sampling = {"max_new_tokens": shape.output_tokens, "ignore_eos": True}
        body |= {"input_ids": ids, "sampling_params": sampling}
    else:
        text = "word " * shape.input_tokens
        prompt = {"messages": [{"role": "user", "content": text}]} if shape.route == CHAT else {"prompt": text}
        usage = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        body |= {"model": "mock", "max_tokens": shape.output_tokens} | prompt | usage
    return json.dumps(body).encode()


def compared(run: LoadRun, truth: MockTruth, streams: int, pattern: Pattern, shape: MockShape) -> CalibrationPoint:
    """What the client said beside what was true, without the first round. Raises ClientError if nothing is left."""
    columns = run.columns
    place = np.full(columns.num, -1, np.int64)
    logged = truth.rids >= 0
    place[truth.rids[logged]] = np.flatnonzero(logged)
    steady = (columns.status == OK) & (place >= 0) & (columns.index >= streams)
    if not steady.any():
        raise ClientError(f"no request of {columns.num} ended well against the mock: {columns.errors}")
    said_s = (columns.first_ns - columns.sent_ns)[steady] * 1e-9
    true_s = (truth.emitted_ns[truth.starts[:-1]] - truth.arrived_ns)[place[steady]] * 1e-9
    said_gaps_s = _gaps_s(columns.read_ns, columns.starts, columns.read_tokens, steady)
    emitted = np.isin(np.arange(len(truth.rids)), place[steady])
    true_gaps_s = _gaps_s(truth.emitted_ns, truth.starts, _chunk_tokens(truth, shape), emitted)
    cpus_s = [process.cpu_fraction * process.duration_s for process in run.processes if process.cpu_fraction]
    return CalibrationPoint(
        streams=streams, pattern=pattern, num_processes=len(run.processes), num_requests=int(steady.sum()),
        num_failed=int((columns.status != OK).sum()), peak_streams=truth.peak_streams,
        ttft_mean_s=_pair(said_s.mean(), true_s.mean()), ttft_p99_s=_pair(_p99(said_s), _p99(true_s)),
        gap_mean_s=_pair(_mean(said_gaps_s), _mean(true_gaps_s)), gap_p99_s=_pair(_p99(said_gaps_s), _p99(true_gaps_s)),
        tok_per_s=_pair(_rate(columns), truth.num_tokens / _span_s(truth.arrived_ns, truth.emitted_ns)),
        worst_ttft_error_s=float(np.abs(said_s - true_s).max()),
        cpu_fraction=max((process.cpu_fraction or 0.0 for process in run.processes), default=None),
        tok_per_cpu_s=truth.num_tokens / sum(cpus_s) if cpus_s else None,
        server_late_p99_s=_p99(truth.late_ns * 1e-9),
    )  # fmt: skip


def _gaps_s(times_ns: Ints, starts: Ints, tokens: Ints, wanted: "np.ndarray") -> NDArray[np.float64]:
    """Times between successive tokens of the same request, for wanted requests; tokens that came together have 0.

    A server that was late sends two chunks at once, and one read may bring both: token by token they can be compared.
    """
    request = np.repeat(np.repeat(np.arange(len(starts) - 1), np.diff(starts)), tokens)
    inside = (request[1:] == request[:-1]) & wanted[request[1:]]
    return np.diff(np.repeat(times_ns, tokens))[inside] * 1e-9


def _chunk_tokens(truth: MockTruth, shape: MockShape) -> Ints:
    """Tokens of every chunk that the mock sent: all the same, but the last of a request."""
    place = np.arange(len(truth.emitted_ns)) - np.repeat(truth.starts[:-1], np.diff(truth.starts))
    return np.minimum(shape.chunk_tokens, shape.output_tokens - place * shape.chunk_tokens)


def _rate(columns: LoadColumns) -> float:
    tokens = int(columns.output_tokens[columns.status == OK].sum())
    return tokens / _span_s(columns.sent_ns[columns.sent_ns >= 0], columns.read_ns)


def _span_s(starts_ns: Ints, ends_ns: Ints) -> float:
    return max(int(ends_ns.max()) - int(starts_ns.min()), 1) * 1e-9


def _pair(said: float, true: float) -> CalibratedQuantity:
    return CalibratedQuantity(said=float(said), true=float(true))


def _mean(values: NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _p99(values: NDArray[np.floating]) -> float:
    return float(np.percentile(values, 99)) if len(values) else 0.0


def patterns_of(name: str) -> tuple[Pattern, ...]:
    """Patterns by the name that the command line takes."""
    return ("ticks", "steps") if name == "both" else (cast(Pattern, name),)
