"""One serving load from its schedule to its figures: what the client process does with a `LoadJob`.

The bodies of all requests are made before the clock starts. The server must be idle first, which its flush of the
prefix cache proves: it is refused while anything runs.
"""

import json
import random
from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raybench.client.columns import LoadColumns, table_of
from raybench.client.drive import Unflushed, flush_cache
from raybench.client.execute import ExecutorSettings
from raybench.client.job import LoadJob, LoadLine
from raybench.client.overload import OverloadRule
from raybench.client.planned import PlannedRequest
from raybench.client.stream import Connection, Endpoint
from raybench.client.workers import CPUS_PER_PROCESS, run_load
from raybench.errors import ClientError
from raybench.load.schedule import Schedule, ScheduledRequest
from raybench.load.schedules import schedule_of
from raybench.load.tokens import prompt_ids
from raybench.records.client import ClientProcess
from raybench.records.loads import ClosedLoad, OpenLoad, RampLoad, ServingLoad, SessionsLoad, TraceLoad
from raybench.records.serving import ClientSide
from raybench.records.units import LOAD_PATHS
from raybench.stats.columns import NEVER, ReadColumns, RequestColumns
from raybench.stats.latency import LoadRun, figures_of

ROWS = "requests.parquet"
"""File beside the result lines with one row a request."""
DRAIN_LIMIT_S = 120.0
"""Time that a server gets to work off what an earlier load left behind."""
CONNECT_LIMIT_S = 10.0
MAX_OPENED = 1024
"""Connections that a load with arrival times opens before its clock starts."""
EXPECTED_E2E_S = 5.0
"""Guess at how long a request lasts, for that number; more are opened when needed."""
STREAMS_PER_PROCESS = 512
"""Streams that one process reads without an error of its own (`raybench calibrate`)."""
WORDS = 4096
"""Words that chat prompts are drawn from."""


async def run_serving(job: LoadJob, folder: Path, emit: Callable[[LoadLine], None]) -> None:
    """Run a load. Raises ClientError when the server cannot be reached."""
    try:
        schedule = schedule_of(job.load, job.arrival_seed, job.prompt_seed)
        planned = [planned_request(request, job) for request in schedule.requests]
    except ValueError as error:
        raise ClientError(f"no requests can be made of this load: {error}") from error
    if not planned:
        raise ClientError("the schedule is empty: the rate is too low for the duration")
    unflushed = await drained(job)
    run = run_load(planned, settings_of(job, schedule), job.num_processes)
    columns, reads = for_statistics(run.columns, schedule)
    pq.write_table(rows_of(run.columns, schedule), folder / ROWS, compression="zstd")
    error = next(iter(run.columns.errors.values()), None)
    emit(
        LoadLine(
            figures=figures_of(LoadRun(columns, schedule.is_open, reads, time_scale=job.time_scale), job.slo),
            client=client_side(run.processes), drained=unflushed is None,
            flush_status=None if unflushed is None else unflushed.http_status,
            stopped_early=next((one.stopped_early for one in run.processes if one.stopped_early), None),
            started_unix_s=min(one.started_unix_s for one in run.processes),
            duration_s=max(one.duration_s for one in run.processes),
            error=error.replace(job.api_key, "***") if error and job.api_key else error,
        )
    )  # fmt: skip


async def drained(job: LoadJob) -> Unflushed | None:
    """Wait until the server is idle and its prefix cache is empty. Returns why that is not known, or None."""
    endpoint = Endpoint.of(job.url, job.api_key)
    connection = await Connection.open(endpoint, CONNECT_LIMIT_S)
    try:
        return await flush_cache(connection, endpoint, min(DRAIN_LIMIT_S, job.timeout_s))
    finally:
        connection.close()


def streams_of(load: ServingLoad) -> int:
    """Streams that a load holds at once: its users, or a guess where requests have times."""
    match load:
        case ClosedLoad() | SessionsLoad():
            return load.concurrency
        case OpenLoad():
            streams = load.rate_per_s * EXPECTED_E2E_S
        case RampLoad():
            streams = max(load.start_rate_per_s, load.end_rate_per_s) * EXPECTED_E2E_S
        case TraceLoad():
            streams = len(load.at_s) / max(load.at_s[-1], 1.0) * load.speed * EXPECTED_E2E_S
    return max(1, ceil(streams))


def max_processes(num_cpus: int) -> int:
    """Client processes that a machine has room for, beside a server."""
    return max(1, num_cpus // CPUS_PER_PROCESS)


def num_processes(streams: int, num_cpus: int) -> int:
    """Client processes where nothing was calibrated."""
    return min(ceil(streams / STREAMS_PER_PROCESS), max_processes(num_cpus))


def settings_of(job: LoadJob, schedule: Schedule) -> ExecutorSettings:
    """How the executor is to send, in real seconds."""
    rate = 0.0
    if schedule.is_open and schedule.num_requests > 1:
        last = schedule.requests[-1].at_s or 0.0
        rate = schedule.num_requests / max(last, 1e-9)
    streams = schedule.num_slots or min(int(rate * EXPECTED_E2E_S) + 16, MAX_OPENED)
    return ExecutorSettings(
        url=job.url, api_key=job.api_key, num_connections=min(streams, schedule.num_requests),
        request_timeout_s=job.timeout_s,
        overload=overload_rule(job) if schedule.is_open else None,
    )  # fmt: skip


def overload_rule(job: LoadJob) -> OverloadRule | None:
    """When the load may be ended early. None = never: a ramp is meant to go beyond what the server bears."""
    if isinstance(job.load, RampLoad):
        return None
    return OverloadRule(slice_s=OverloadRule().slice_s / min(job.time_scale, 4))


def planned_request(request: ScheduledRequest, job: LoadJob) -> PlannedRequest:
    """A request with its bytes, in real seconds."""
    return PlannedRequest(
        index=request.index,
        due_s=None if request.at_s is None else request.at_s / job.time_scale,
        chain=request.slot if request.slot is not None else request.session,
        body=json.dumps(body_of(request, job), separators=(",", ":")).encode(),
        path=LOAD_PATHS[job.route],
        pause_s=request.pause_s / job.time_scale,
    )


def body_of(request: ScheduledRequest, job: LoadJob) -> dict[str, object]:
    """JSON of a request. `generate` and `completions` take token ids; a chat has as many words as it is to have tokens,
    which a tokenizer may count otherwise."""
    ids = [] if request.text is not None else prompt_ids(request, job.vocab_tokens)
    if job.route == "generate":
        sampling = {"temperature": 0.0, "max_new_tokens": request.output_tokens, "ignore_eos": True}
        prompt: dict[str, object] = {"input_ids": ids} if request.text is None else {"text": request.text}
        return prompt | {"sampling_params": sampling, "stream": True}
    content: dict[str, object] = {
        "model": job.model, "max_tokens": request.output_tokens, "temperature": 0.0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }  # fmt: skip
    if job.route == "completions":
        return content | {"prompt": ids if request.text is None else request.text}
    text = " ".join(_word(token) for token in ids) if request.text is None else request.text
    return content | {"messages": [{"role": "user", "content": text}]}


def _word(token: int) -> str:
    draw = random.Random(token % WORDS)
    return "".join(chr(97 + int(draw.random() * 26)) for _ in range(4))


def for_statistics(found: LoadColumns, schedule: Schedule) -> tuple[RequestColumns, ReadColumns]:
    """What came back, with what was asked, as the statistics take it."""
    asked = [schedule.requests[index] for index in found.index.tolist()]

    def column(values: list[int]) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    lengths = column([one.input_tokens for one in asked])
    # How many tokens a text has is the server's to say.
    is_text = np.array([one.text is not None for one in asked], dtype=np.bool_)
    columns = RequestColumns(
        index=found.index, slot=column([-1 if one.slot is None else one.slot for one in asked]),
        scheduled_ns=found.scheduled_ns, sent_ns=found.sent_ns, first_ns=found.first_ns, end_ns=found.end_ns,
        status=found.status, asked_input_tokens=np.where(is_text, found.input_tokens, lengths),
        asked_output_tokens=column([one.output_tokens for one in asked]), input_tokens=found.input_tokens,
        output_tokens=found.output_tokens, cached_tokens=found.cached_tokens,
        shared_tokens=column([one.shared_tokens for one in asked]), first_tokens=np.maximum(found.first_tokens, 1),
        longest_gap_ns=found.longest_gap_ns, queue_ns=found.queue_ns, retractions=found.retractions,
    )  # fmt: skip
    return columns, ReadColumns(found.starts, found.read_ns, found.read_tokens)


def rows_of(found: LoadColumns, schedule: Schedule) -> pa.Table:
    """One row a request: what came back, and what was asked for. Times count from the start of the run."""
    table = table_of(found)
    times = [name for name in table.column_names if name.endswith("_ns") and name not in ("longest_gap_ns", "queue_ns")]
    known = [getattr(found, name) for name in ("scheduled_ns", "sent_ns")]
    origin = min((int(values[values != NEVER].min()) for values in known if (values != NEVER).any()), default=0)
    for name in times:
        values = table[name].to_numpy()
        shifted = np.where(values == NEVER, NEVER, values - origin)
        table = table.set_column(table.column_names.index(name), name, pa.array(shifted))
    asked = [schedule.requests[index] for index in found.index.tolist()]
    for name in ("session", "turn", "input_tokens", "output_tokens", "shared_tokens"):
        table = table.append_column(f"asked_{name}", pa.array([getattr(one, name) for one in asked], pa.int64()))
    return table


def client_side(processes: tuple[ClientProcess, ...]) -> ClientSide:
    """What the processes say of themselves, the worst of them."""
    return ClientSide(
        num_processes=len(processes),
        max_cpu_fraction=max((one.cpu_fraction or 0.0 for one in processes), default=None),
        lag_p99_s=max((one.read_lag_p99_s or 0.0 for one in processes), default=None),
        cpus=tuple(sorted({cpu for one in processes for cpu in one.cpus})),
        processes=processes,
    )
