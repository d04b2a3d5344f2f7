"""Warm up and measure one static batch. Each pass: fresh prompts, own connection, flushed cache, no garbage collection.

A pass never raises for what the engine does: failed requests are rows. What ends the job is an engine that nobody can
connect to, and the limit of the job (`ClientError`, the message of the latter starts with "timeout").
"""

import asyncio
import gc
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from raybench.client.job import BatchJob, MeasuredLine, WarmUpLine
from raybench.client.stream import Connection, Endpoint, Exchange
from raybench.client.transcript import Chunk, Transcript
from raybench.errors import ClientError
from raybench.load.prompts import one_batch_prompts, pass_seed
from raybench.records import Pass, RequestRow
from raybench.stats.one_batch import TokenRead, by_request, pass_of, request_timing

Emit = Callable[[WarmUpLine | MeasuredLine], None]

FLUSH_LIMIT_S = 10.0
"""Time that an engine gets to become idle; SGLang answers /flush_cache with 400 while requests run."""
FLUSH_PAUSE_S = 0.1
HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class MeasuredPass:
    """One pass with what the client itself cost."""

    result: Pass
    """The primitives."""
    rows: tuple[RequestRow, ...]
    """One row a prompt."""
    started_unix_s: float
    """Wall clock at the start."""
    ended_unix_s: float
    """Wall clock at the end."""
    cpu_fraction: float
    """CPU time of this process over wall time."""
    timed_out: bool
    """The job's limit ended it."""


async def run_batch(job: BatchJob, emit: Emit) -> None:
    """Run a job: warm-up lines, then the measured line. Raises ClientError."""
    endpoint = Endpoint.of(job.url, job.api_key)
    deadline_s = time.monotonic() + job.timeout_s
    warm_ups: list[Pass] = []
    flat = False
    for number in range(1, job.warm_up.max_passes + 1):
        warm = await one_pass(job, endpoint, number, deadline_s)
        emit(WarmUpLine(result=warm.result))
        if warm.timed_out:
            raise ClientError(f"timeout: the limit of {job.timeout_s:.0f} s was reached in warm-up pass {number}")
        warm_ups.append(warm.result)
        flat = is_flat(warm_ups, job.warm_up.tolerance_fraction)
        if flat:
            break
    measured = await one_pass(job, endpoint, 0, deadline_s)
    emit(
        MeasuredLine(
            result=measured.result, rows=measured.rows, flat=flat, started_unix_s=measured.started_unix_s,
            ended_unix_s=measured.ended_unix_s, cpu_fraction=measured.cpu_fraction,
            cpus=tuple(sorted(os.sched_getaffinity(0))),
        )
    )  # fmt: skip
    if measured.timed_out:
        raise ClientError(f"timeout: the limit of {job.timeout_s:.0f} s was reached in the measured pass")


def is_flat(passes: list[Pass], tolerance_fraction: float) -> bool:
    """True if the last two passes agree: their latencies within the tolerance, and their prefills too.

    A prefill that is still cold hides in a long decode (on an H200: TTFT 237 ms, later 166, of a latency of 6.9 s).
    Its times may differ by twice the tolerance, or by half a percent of the latency, which is clock and scheduling.
    """
    if len(passes) < 2:
        return False
    shorter, longer = sorted(each.latency_s for each in passes[-2:])
    ttfts_s = [each.last_ttft_s for each in passes[-2:]]
    if ttfts_s[0] is None or ttfts_s[1] is None or longer - shorter >= tolerance_fraction * longer:
        return False
    allowed_s = max(2 * tolerance_fraction * max(ttfts_s[0], ttfts_s[1]), 0.005 * longer)
    return abs(ttfts_s[0] - ttfts_s[1]) < allowed_s


async def one_pass(job: BatchJob, endpoint: Endpoint, pass_index: int, deadline_s: float) -> MeasuredPass:
    """One pass over the engine; pass 0 is the measured one. `deadline_s` on `time.monotonic`."""
    request = endpoint.post("/generate", generate_body(job, pass_index))
    transcript = Transcript()
    connection = await Connection.open(endpoint, max(deadline_s - time.monotonic(), 0.001))
    try:
        unflushed = await flush_cache(connection, endpoint, min(FLUSH_LIMIT_S, deadline_s - time.monotonic()))
        if not connection.is_open:
            connection = await Connection.open(endpoint, max(deadline_s - time.monotonic(), 0.001))
        # A collection over the kept pieces takes milliseconds, as long as a decode step.
        gc.collect()
        gc.disable()
        started_unix_s, cpu_s = time.time(), time.process_time()
        exchange = await connection.exchange(request, transcript.add, max(deadline_s - time.monotonic(), 0.001))
        cpu_s = time.process_time() - cpu_s
        ended_unix_s = time.time()
    finally:
        gc.enable()
        connection.close()
    transcript.finish()
    wall_s = (exchange.ended_ns - exchange.sent_ns) * 1e-9
    result, rows = pass_and_rows(job, exchange, transcript, None if unflushed is None else unflushed.reason)
    return MeasuredPass(
        result=result, rows=rows, started_unix_s=started_unix_s, ended_unix_s=ended_unix_s,
        cpu_fraction=cpu_s / wall_s if wall_s > 0 else 0.0, timed_out=exchange.ending == "timeout",
    )  # fmt: skip


def generate_body(job: BatchJob, pass_index: int) -> bytes:
    """JSON of the one request: the fields that SGLang's `bench_one_batch_server` sends, with our own prompts."""
    try:
        prompts = one_batch_prompts(job.load, pass_seed(job.prompt_seed, pass_index), job.vocab_tokens)
    except ValueError as error:
        raise ClientError(f"no prompts can be made: {error}") from error
    payload = {
        "input_ids": prompts,
        "sampling_params": {
            "temperature": 0.0,
            "max_new_tokens": job.load.output_tokens,
            "ignore_eos": True,
            "json_schema": None,
            "stream_interval": 1,
        },
        "return_logprob": False,
        "stream": True,
    }
    return json.dumps(payload, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Unflushed:
    """Why the prefix cache was not emptied."""

    http_status: int | None
    """Last answer; 400 = the engine was busy until the end. None = there was no whole answer."""
    reason: str
    """In words."""


async def flush_cache(connection: Connection, endpoint: Endpoint, limit_s: float) -> Unflushed | None:
    """Empty the prefix cache, waiting while the engine is busy (status 400). Returns what went wrong, or None."""
    request = endpoint.post("/flush_cache", b"")
    deadline_s = time.monotonic() + limit_s
    while True:
        answer = await connection.exchange(request, None, max(deadline_s - time.monotonic(), 0.001))
        if answer.ending == "whole" and answer.http_status == HTTP_OK:
            return None
        busy = answer.ending == "whole" and answer.http_status == 400
        if not busy or not connection.is_open or time.monotonic() + FLUSH_PAUSE_S > deadline_s:
            status = answer.http_status if answer.ending == "whole" else None
            said = answer.ending if status is None else f"HTTP {status}"
            return Unflushed(status, f"/flush_cache failed, the prefix cache may be warm: {said}")
        await asyncio.sleep(FLUSH_PAUSE_S)


def pass_and_rows(
    job: BatchJob, exchange: Exchange, transcript: Transcript, flush_error: str | None = None
) -> tuple[Pass, tuple[RequestRow, ...]]:
    """Primitives and rows of a pass, in simulated seconds where the job is scaled."""
    scale_s = job.time_scale * 1e-9
    num_requests = job.load.batch_size
    reads: list[TokenRead] = []
    counted = [0] * num_requests
    last: list[Chunk | None] = [None] * num_requests
    stray: str | None = None
    for chunk in transcript.chunks:
        if not 0 <= chunk.index < num_requests:
            stray = f"a chunk has index {chunk.index} in a batch of {num_requests}"
            continue
        last[chunk.index] = chunk
        tokens = chunk.completion_tokens or 0
        if tokens > counted[chunk.index]:
            counted[chunk.index] = tokens
            reads.append(TokenRead((chunk.t_ns - exchange.sent_ns) * scale_s, chunk.index, tokens))
    rows = tuple(
        _row(index, last[index], own_reads, _unfinished_status(exchange, transcript))
        for index, own_reads in enumerate(by_request(reads, num_requests))
    )
    ended_ns = transcript.done_ns if transcript.done_ns is not None else exchange.ended_ns
    errors = (_exchange_error(exchange, transcript), transcript.error, stray, _row_error(rows), flush_error)
    error = next((said for said in errors if said is not None), None)
    return pass_of(rows, reads, (ended_ns - exchange.sent_ns) * scale_s, _redacted(error, job.api_key)), rows


def _unfinished_status(exchange: Exchange, transcript: Transcript) -> str:
    """Status of a request that was never said to have finished."""
    if exchange.ending == "timeout":
        return "timeout"
    refused = exchange.http_status is not None and exchange.http_status != HTTP_OK
    return "http_error" if refused or transcript.error is not None else "cut"


def _row(index: int, last: Chunk | None, reads: list[TokenRead], unfinished: str) -> RequestRow:
    timing = request_timing(reads)
    finish_reason = None if last is None else last.finish_reason
    if finish_reason is None:
        status = unfinished
    elif finish_reason == "abort":
        status = "http_error"
    else:
        # A stream without a token has no first token: reading it as quick would be the field's oldest error.
        status = "ok" if reads else "cut"
    return RequestRow.model_validate(
        {
            "index": index,
            "status": status,
            "prompt_tokens": (last.prompt_tokens or 0) if last else 0,
            "output_tokens": timing.output_tokens,
            "cached_tokens": (last.cached_tokens or 0) if last else 0,
            "num_retractions": last.num_retractions if last else 0,
            "ttft_s": timing.ttft_s,
            "first_chunk_tokens": timing.first_chunk_tokens,
            "end_s": timing.end_s,
            "longest_gap_s": timing.longest_gap_s,
            "num_chunks": timing.num_chunks,
            "finish_reason": finish_reason,
        }
    )


def _exchange_error(exchange: Exchange, transcript: Transcript) -> str | None:
    if exchange.http_status is not None and exchange.http_status != HTTP_OK:
        return f"HTTP {exchange.http_status}: {exchange.body.decode(errors='replace')[:1000]}"
    match exchange.ending:
        case "timeout":
            return f"timeout: no end of the stream after {transcript.num_bytes} bytes"
        case "cut":
            # A proxy may end a body by closing; the stream's own end mark then says that all came.
            return (
                None if transcript.done_ns is not None else f"the connection was cut after {transcript.num_bytes} bytes"
            )
        case "whole":
            return None


def _row_error(rows: tuple[RequestRow, ...]) -> str | None:
    for row in rows:
        if row.status == "ok":
            continue
        if row.finish_reason is None:
            return f"the stream ended without a finish reason for request {row.index}"
        if row.ttft_s is None:
            return f"no token was counted for request {row.index}: meta_info.completion_tokens is missing or 0"
        return f"the engine ended request {row.index} with {row.finish_reason}"
    return None


def _redacted(text: str | None, api_key: str | None) -> str | None:
    return text.replace(api_key, "***") if text is not None and api_key else text
