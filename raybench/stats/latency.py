"""From the columns of a run to its figures. Pure; a million requests take seconds.

What each figure is:
- TTFT: from the start of a request to the read of its first token. E2E: to the read of its last one. The start is the
  scheduled time where there is one, so that a stalled server or client is charged for the requests that had to wait.
- TPOT: (last read - first read) / (tokens - tokens of the first read), request by request. ITL: time between two reads
  over the tokens that the second one brought, token by token. Both are the time of a token; the mean of ITL gives long
  replies their weight.
- A request that failed was never answered: its TTFT and E2E are infinite, also where its answer broke off, since what
  was read of it is of no use. TPOT and longest gap are infinite where it had begun to stream, as the next token never
  came; one that failed before its first token has none, like a reply of one token. Its time in the server's queue is
  not known.
- Rates: what was read inside of the window over its length, whenever it was sent.
"""

from dataclasses import dataclass, replace

import numpy as np

from raybench.records.loads import Slo
from raybench.records.serving import Goodput, LoadFigures, Percentiles
from raybench.stats.columns import NEVER, OK, STATUSES, UNSENT, Bools, Floats, Ints, ReadColumns, RequestColumns
from raybench.stats.gaps import Gaps, gaps_of, longest_gaps_ns, percentiles_of
from raybench.stats.steady import (
    closed_window_ns,
    coherence,
    mean_between,
    open_window_ns,
    queue_trend,
    under_way,
    window_record,
)

NS = 1e-9


@dataclass(frozen=True, slots=True)
class LoadRun:
    """Everything that a run left behind."""

    columns: RequestColumns
    """The requests."""
    is_open: bool
    """True if requests had times of their own."""
    reads: ReadColumns | None = None
    """All reads, in the order of the columns; None = only what the columns and `gaps` hold was kept."""
    gaps: Gaps | None = None
    """Counted gaps, where reads were not kept."""
    time_scale: float = 1.0
    """Simulated seconds per real second."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of requests in seconds, one entry each; NaN where there is none, and for those that failed."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    longest_gap_s: Floats
    queue_s: Floats


def figures_of(run: LoadRun, slo: Slo | None = None) -> LoadFigures:
    """All figures of a run."""
    columns, scale_s = run.columns, NS * run.time_scale
    origin_ns = _origin_ns(columns)
    window_ns = open_window_ns(columns) if run.is_open else closed_window_ns(columns)
    common = LoadFigures(
        window=None, num_requests=columns.num, num_sent=int(columns.sent.sum()), statuses=_statuses(columns),
        num_wrong_length=int(((columns.status == OK) & (columns.output_tokens != columns.asked_output_tokens)).sum()),
        num_silent=int(((columns.status == OK) & ~columns.ok).sum()),
        lateness_s=_percentiles((columns.sent_ns - columns.scheduled_ns)[columns.sent].astype(np.float64) * scale_s),
        max_concurrency=_max_concurrency(columns),
    ).model_copy(update=_totals(columns))  # fmt: skip
    if window_ns is None:
        return common
    return common.model_copy(update=_steady(run, window_ns, slo) | {
        "window": window_record(columns, window_ns, origin_ns, scale_s),
    })  # fmt: skip


def latencies(columns: RequestColumns, *, is_open: bool, scale_s: float = NS) -> Latencies:
    """Latencies of every request that ended well, from the scheduled time if `is_open`."""
    ok = columns.ok
    start_ns = columns.scheduled_ns if is_open else columns.sent_ns
    later = columns.output_tokens - columns.first_tokens

    def seconds(values: Floats, valid: Bools) -> Floats:
        return np.where(valid, values * scale_s, np.nan)

    # Divided as numbers that may be zero or negative; the mask throws those away.
    per_token = (columns.end_ns - columns.first_ns) / np.maximum(later, 1)
    return Latencies(
        ttft_s=seconds((columns.first_ns - start_ns).astype(np.float64), ok),
        tpot_s=seconds(per_token, ok & (later > 0)),
        e2e_s=seconds((columns.end_ns - start_ns).astype(np.float64), ok),
        longest_gap_s=seconds(columns.longest_gap_ns.astype(np.float64), ok & (columns.longest_gap_ns != NEVER)),
        queue_s=seconds(columns.queue_ns.astype(np.float64), ok & (columns.queue_ns != NEVER)),
    )


def goodput(columns: RequestColumns, seen: Latencies, slo: Slo, length_s: float) -> Goodput:
    """How many of the sent requests kept the SLO. One that failed kept nothing; one of a single token has no TPOT and
    no gap, and keeps those limits."""
    ok = columns.ok
    limit_ttft_s = None
    if slo.ttft_ms is not None:
        limit_ttft_s = (slo.ttft_ms + slo.ttft_ms_per_1k_input * columns.asked_input_tokens / 1000) / 1000

    def kept(values: Floats, limit_s: Floats | float | None) -> Bools:
        return ok & (np.isnan(values) | (values <= limit_s)) if limit_s is not None else ok

    masks = [
        kept(seen.ttft_s, limit_ttft_s),
        kept(seen.tpot_s, None if slo.tpot_ms is None else slo.tpot_ms / 1000),
        kept(seen.longest_gap_s, None if slo.longest_gap_ms is None else slo.longest_gap_ms / 1000),
        kept(seen.e2e_s, slo.e2e_s),
    ]
    good = np.logical_and.reduce(masks)
    ttft, tpot, gap, e2e = (int(mask.sum()) for mask in masks)
    return Goodput(
        slo=slo, num_sent=columns.num, num_good=int(good.sum()), num_ttft=ttft, num_tpot=tpot, num_gap=gap, num_e2e=e2e,
        request_per_s=float(good.sum()) / length_s,
    )  # fmt: skip


def with_longest_gaps(columns: RequestColumns, reads: ReadColumns) -> RequestColumns:
    """The columns with the longest gaps that the reads show."""
    return replace(columns, longest_gap_ns=longest_gaps_ns(reads))


def _steady(run: LoadRun, window_ns: tuple[int, int], slo: Slo | None) -> dict[str, object]:
    """Everything that is about the window."""
    columns, scale_s = run.columns, NS * run.time_scale
    length_s = (window_ns[1] - window_ns[0]) * scale_s
    # A user that gets no connection has sent nothing, and has failed when it was to send.
    begins = np.where(columns.sent & (not run.is_open), columns.sent_ns, columns.scheduled_ns)
    inside = columns.where(_between(begins, window_ns) & (columns.status != UNSENT))
    seen = latencies(inside, is_open=run.is_open, scale_s=scale_s)
    num_failed = int((~inside.ok).sum())
    num_broken = int((~inside.ok & (inside.first_ns != NEVER) & (inside.asked_output_tokens > 1)).sum())
    gaps = run.gaps if run.reads is None else gaps_of(run.reads, window_ns)
    times, numbers = under_way(columns, from_schedule=run.is_open)
    ended = columns.ok & _between(columns.end_ns, window_ns)
    started = columns.ok & _between(columns.first_ns, window_ns)
    return {
        "ttft_s": _percentiles(seen.ttft_s, num_failed),
        "tpot_s": _percentiles(seen.tpot_s, num_broken),
        "itl_s": gaps.by_token.percentiles(scale_s) if gaps else None,
        "chunk_gap_s": gaps.by_chunk.percentiles(scale_s) if gaps else None,
        "longest_gap_s": _percentiles(seen.longest_gap_s, num_broken),
        "e2e_s": _percentiles(seen.e2e_s, num_failed),
        "queue_s": _percentiles(seen.queue_s),
        "request_per_s": float(ended.sum()) / length_s,
        "input_tok_per_s": float(columns.input_tokens[started].sum()) / length_s,
        "output_tok_per_s": _tokens_read(run, window_ns) / length_s,
        "mean_concurrency": float(mean_between(times, numbers, np.array(window_ns, dtype=np.float64))[0]),
        "min_turnovers": _turnovers(columns, ended, seen, length_s),
        "queue": queue_trend(times, numbers, window_ns),
        "coherence": None if run.is_open else coherence(columns, window_ns),
        "early_ttft_ratio": _early_ratio(inside, seen, window_ns),
        "goodput": None if slo is None or not inside.num else goodput(inside, seen, slo, length_s),
    }


def _turnovers(columns: RequestColumns, ended: Bools, seen: Latencies, length_s: float) -> float | None:
    if (columns.slot >= 0).all():
        return float(np.bincount(columns.slot[ended], minlength=int(columns.slot.max()) + 1).min())
    e2e_s = seen.e2e_s[~np.isnan(seen.e2e_s)]
    return length_s / float(np.median(e2e_s)) if len(e2e_s) and np.median(e2e_s) > 0 else None


def _early_ratio(inside: RequestColumns, seen: Latencies, window_ns: tuple[int, int]) -> float | None:
    known = ~np.isnan(seen.ttft_s)
    start = inside.scheduled_ns if (inside.slot < 0).all() else inside.sent_ns
    early = start < window_ns[0] + (window_ns[1] - window_ns[0]) / 5
    first, rest = seen.ttft_s[known & early], seen.ttft_s[known & ~early]
    if len(first) < 5 or len(rest) < 5 or np.median(rest) <= 0:
        return None
    return float(np.median(first) / np.median(rest))


def _tokens_read(run: LoadRun, window_ns: tuple[int, int]) -> float:
    """Reply tokens read inside; without reads, those of a request are spread evenly from its first to its last."""
    if run.reads is not None:
        return float(run.reads.tokens[_between(run.reads.t_ns, window_ns)].sum())
    columns = run.columns.where(run.columns.ok)
    length = (columns.end_ns - columns.first_ns).astype(np.float64)
    start = np.clip(columns.first_ns, *window_ns)
    part = (np.clip(columns.end_ns, *window_ns) - start) / np.maximum(length, 1)
    at_first = np.where(_between(columns.first_ns, window_ns), columns.first_tokens, 0)
    return float((part * (columns.output_tokens - columns.first_tokens) + at_first).sum())


def _between(times: Ints, window_ns: tuple[int, int]) -> Bools:
    return (times >= window_ns[0]) & (times < window_ns[1])


def _percentiles(values: Floats, num_failed: int = 0) -> Percentiles | None:
    return percentiles_of(values[~np.isnan(values)], num_failed)


def _origin_ns(columns: RequestColumns) -> int:
    times = np.concatenate([columns.scheduled_ns, columns.sent_ns])
    times = times[times != NEVER]
    return int(times.min()) if len(times) else 0


def _statuses(columns: RequestColumns) -> dict[str, int]:
    counts = np.bincount(columns.status, minlength=len(STATUSES))
    return {name: int(number) for name, number in zip(STATUSES, counts, strict=True) if number}


def _max_concurrency(columns: RequestColumns) -> int | None:
    _, numbers = under_way(columns.where(columns.sent), from_schedule=False)
    return int(numbers.max()) if len(numbers) else None


def _totals(columns: RequestColumns) -> dict[str, int]:
    good = columns.where(columns.status == OK)
    return {
        "input_tokens": int(np.maximum(good.input_tokens, 0).sum()),
        "asked_input_tokens": int(good.asked_input_tokens.sum()),
        "output_tokens": int(np.maximum(good.output_tokens, 0).sum()),
        "cached_tokens": int(np.maximum(good.cached_tokens, 0).sum()),
        "shared_tokens": int(good.shared_tokens.sum()),
        "num_retractions": int(np.maximum(good.retractions, 0).sum()),
    }
