"""One static batch: from the reads of a stream to the figures of a pass. Pure.

Two sets of figures stand side by side. SGLang's own (`output_tok_per_s`, `itl_ms` ...) divide *all* tokens by the time
after the last first token, so they count each first token without its time: 2% high at 50 tokens, 0.2% at 512. The
steady-state ones count only what came between the last first token and the first finish, while the batch was full.
"""

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from raybench.records import OneBatchLoad, Pass, Record, RequestRow


@dataclass(frozen=True, slots=True)
class TokenRead:
    """A chunk that raised one request's token count."""

    t_s: float
    """Seconds from sending the batch to the read that completed the chunk."""
    index: int
    """Place of the request in the batch."""
    tokens: int
    """Tokens of the reply so far, this chunk's included, as the server counted them."""


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """What the reads of one request say."""

    ttft_s: float | None = None
    """First token; None if none came."""
    first_chunk_tokens: int = 0
    """Tokens of the first chunk."""
    end_s: float | None = None
    """Last token."""
    longest_gap_s: float | None = None
    """Longest time between two chunks; None with fewer than two."""
    num_chunks: int = 0
    """Chunks with tokens."""
    output_tokens: int = 0
    """Tokens of the reply."""


class OneBatchFigures(Record):
    """Figures of one pass. SGLang's formulas first (`bench_one_batch_server`), then what they hide."""

    latency_s: float
    """From sending the batch to the end of the stream."""
    last_ttft_s: float | None
    """Until the last request's first token."""
    input_tok_per_s: float | None
    """Batch size times input tokens over last TTFT."""
    output_tok_per_s: float | None
    """All output tokens over (latency - last TTFT)."""
    itl_ms: float | None
    """1000 times batch size over `output_tok_per_s`: derived, not observed."""
    overall_tok_per_s: float | None
    """Input and output tokens over latency."""
    first_ttft_s: float | None
    """Until the first token of the quickest request."""
    median_ttft_s: float | None
    """Median time to first token."""
    steady_output_tok_per_s: float | None
    """Tokens between the last first token and the first finish, over that time; None if there was no such time."""
    steady_itl_ms: float | None
    """1000 times batch size over `steady_output_tok_per_s`: time of one decode step of the full batch."""


def by_request(reads: Sequence[TokenRead], num_requests: int) -> list[list[TokenRead]]:
    """Reads of every request, in the order in which they came."""
    split: list[list[TokenRead]] = [[] for _ in range(num_requests)]
    for read in reads:
        split[read.index].append(read)
    return split


def request_timing(reads: Sequence[TokenRead]) -> RequestTiming:
    """Timing of one request from its reads, in order of time."""
    if not reads:
        return RequestTiming()
    gaps = [later.t_s - earlier.t_s for earlier, later in itertools.pairwise(reads)]
    return RequestTiming(
        ttft_s=reads[0].t_s,
        first_chunk_tokens=reads[0].tokens,
        end_s=reads[-1].t_s,
        longest_gap_s=max(gaps) if gaps else None,
        num_chunks=len(reads),
        output_tokens=reads[-1].tokens,
    )


def tokens_at(t_s: float, requests: Sequence[Sequence[TokenRead]]) -> int:
    """Tokens of the whole batch that had been read at one moment."""
    places = [bisect_right(reads, t_s, key=lambda read: read.t_s) for reads in requests]
    return sum(reads[place - 1].tokens for reads, place in zip(requests, places, strict=True) if place > 0)


def _same_step_s(last_ttft_s: float | None, rows: Sequence[RequestRow]) -> float:
    """A quarter of a decode step: what is read within it after the first finish belongs to the finishing step.

    An engine makes one token of every request in one step, but its chunks may be split over reads: without this the
    first finisher would cut off up to batch_size - 1 tokens of its own step.
    """
    finished = [
        (row.end_s, row.output_tokens) for row in rows if row.finish_reason is not None and row.end_s is not None
    ]
    if last_ttft_s is None or not finished:
        return 0.0
    end_s, tokens = min(finished)
    return max(0.0, (end_s - last_ttft_s) / max(tokens - 1, 1) / 4)


def pass_of(rows: Sequence[RequestRow], reads: Sequence[TokenRead], latency_s: float, error: str | None = None) -> Pass:
    """The primitives of a pass. `reads` in order of time; a first or last time that not all requests have is None."""
    requests = by_request(reads, len(rows))
    ttfts_s = [row.ttft_s for row in rows if row.ttft_s is not None]
    all_started = len(ttfts_s) == len(rows)
    last_ttft_s = max(ttfts_s) if all_started else None
    ends_s = [row.end_s for row in rows if row.end_s is not None]
    finished_s = [row.end_s for row in rows if row.finish_reason is not None and row.end_s is not None]
    first_end_s = min(finished_s, default=None)
    same_step_s = _same_step_s(last_ttft_s, rows)
    gaps_s = [row.longest_gap_s for row in rows if row.longest_gap_s is not None]
    lengths = [row.output_tokens for row in rows]
    return Pass(
        latency_s=latency_s,
        first_ttft_s=min(ttfts_s, default=None),
        median_ttft_s=median(ttfts_s) if all_started else None,
        last_ttft_s=last_ttft_s,
        last_token_s=max(ends_s, default=None),
        tokens_at_last_ttft=0 if last_ttft_s is None else tokens_at(last_ttft_s, requests),
        first_end_s=first_end_s,
        tokens_at_first_end=0 if first_end_s is None else tokens_at(first_end_s + same_step_s, requests),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        output_tokens=sum(lengths),
        min_output_tokens=min(lengths),
        max_output_tokens=max(lengths),
        cached_tokens=sum(row.cached_tokens for row in rows),
        num_retractions=sum(row.num_retractions for row in rows),
        num_ok=sum(row.status == "ok" for row in rows),
        num_requests=len(rows),
        longest_gap_s=max(gaps_s, default=None),
        finish_reasons=dict(Counter(row.finish_reason or "none" for row in rows)),
        first_chunk_tokens=sum(row.first_chunk_tokens for row in rows),
        error=error,
    )


def figures(result: Pass, load: OneBatchLoad) -> OneBatchFigures:
    """SGLang's formulas and the steady state of one pass; None where the pass does not hold what a figure needs.

    Input tokens are those of the load, output tokens those that the server counted (as SGLang 0.5.21 does: a short
    reply must not raise a throughput).
    """
    input_tokens = load.batch_size * load.input_tokens
    decode_s = None if result.last_ttft_s is None else result.latency_s - result.last_ttft_s
    output_tok_per_s = _ratio(result.output_tokens, decode_s)
    steady_s = (
        None if result.last_ttft_s is None or result.first_end_s is None else result.first_end_s - result.last_ttft_s
    )
    steady_tok_per_s = _ratio(result.tokens_at_first_end - result.tokens_at_last_ttft, steady_s)
    return OneBatchFigures(
        latency_s=result.latency_s,
        last_ttft_s=result.last_ttft_s,
        input_tok_per_s=_ratio(input_tokens, result.last_ttft_s),
        output_tok_per_s=output_tok_per_s,
        itl_ms=_ratio(1000 * load.batch_size, output_tok_per_s),
        overall_tok_per_s=_ratio(input_tokens + result.output_tokens, result.latency_s),
        first_ttft_s=result.first_ttft_s,
        median_ttft_s=result.median_ttft_s,
        steady_output_tok_per_s=steady_tok_per_s,
        steady_itl_ms=_ratio(1000 * load.batch_size, steady_tok_per_s),
    )


def _ratio(numerator: float, denominator: float | None) -> float | None:
    """The quotient, or None where either side is not positive: such a figure was not measured."""
    if denominator is None or denominator <= 0 or numerator <= 0:
        return None
    return numerator / denominator
