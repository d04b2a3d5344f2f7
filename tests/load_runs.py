"""Runs of serving loads made by arithmetic, for tests of what reads them: every figure can be computed on paper."""

from dataclasses import replace

import numpy as np

from raybench.load.schedule import Schedule
from raybench.stats.columns import NEVER, OK, ReadColumns, RequestColumns
from raybench.stats.latency import LoadRun

MS = 1_000_000


def columns_of(schedule: Schedule) -> RequestColumns:
    """Columns of a schedule before anything is sent."""
    num = schedule.num_requests

    def column(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    blank = np.full(num, NEVER, dtype=np.int64)
    requests = schedule.requests
    return RequestColumns(
        index=np.arange(num), slot=column([-1 if r.slot is None else r.slot for r in requests]),
        scheduled_ns=column([NEVER if r.at_s is None else int(r.at_s * 1e9) for r in requests]), sent_ns=blank.copy(),
        first_ns=blank.copy(), end_ns=blank.copy(), status=np.zeros(num, dtype=np.int64),
        asked_input_tokens=column([r.input_tokens for r in requests]),
        asked_output_tokens=column([r.output_tokens for r in requests]),
        input_tokens=column([r.input_tokens for r in requests]),
        output_tokens=column([r.output_tokens for r in requests]),
        cached_tokens=column([r.shared_tokens for r in requests]),
        shared_tokens=column([r.shared_tokens for r in requests]), first_tokens=np.ones(num, dtype=np.int64),
        longest_gap_ns=blank.copy(), queue_ns=blank.copy(), retractions=np.zeros(num, dtype=np.int64),
    )  # fmt: skip


def played(schedule: Schedule, ttft_ms: float = 50, itl_ms: float = 10, servers: int | None = None) -> LoadRun:
    """The schedule on a server that takes `servers` requests at once (None = all), each at its own even pace."""
    columns = columns_of(schedule)
    free = [0] * servers if servers else None
    ready: dict[int, int] = {}
    reads: list[np.ndarray] = []
    order = range(schedule.num_requests)
    for place in order:
        request = schedule.requests[place]
        if request.at_s is not None:
            columns.scheduled_ns[place] = int(request.at_s * 1e9)
        else:
            columns.scheduled_ns[place] = ready.get(request.slot or 0, 0) + int(request.pause_s * 1e9)
        sent = columns.sent_ns[place] = columns.scheduled_ns[place]
        start = sent
        if free is not None:
            server = int(np.argmin(free))
            start = max(sent, free[server])
        times = start + int(ttft_ms * MS) + np.arange(request.output_tokens) * int(itl_ms * MS)
        if free is not None:
            free[int(np.argmin(free))] = int(times[-1])
        columns.first_ns[place], columns.end_ns[place] = times[0], times[-1]
        columns.queue_ns[place] = start - sent
        columns.longest_gap_ns[place] = int(itl_ms * MS) if request.output_tokens > 1 else NEVER
        ready[request.slot or 0] = int(times[-1])
        reads.append(times)
    starts = np.concatenate([[0], np.cumsum([len(times) for times in reads])])
    tokens = np.ones(int(starts[-1]), dtype=np.int64)
    return LoadRun(columns, schedule.is_open, ReadColumns(starts, np.concatenate(reads), tokens))


def failing(run: LoadRun, places: list[int], status: int = 1) -> LoadRun:
    """The run with some requests that failed."""
    columns = replace(run.columns, status=run.columns.status.copy())
    columns.status[places] = status
    assert status != OK
    return replace(run, columns=columns)
