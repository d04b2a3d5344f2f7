"""The server's own metrics: one page of `/metrics` -> one look, and all looks of a run -> what they come to. Pure.

SGLang 0.5.12 to 0.5.23. Ranks of tensor parallelism tell of the same requests, those of data parallelism of others: so
the largest value counts within a data-parallel rank, and values are added over these. Some versions have a counter
where others have a gauge; both are read. Names that a version lacks are None.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from statistics import fmean

from raybench.records.serving import ServerSample, ServerSide, SteadyWindow

PREFIX = "sglang:"
MAX_KEPT = 120
"""Looks that a record keeps."""
_LINE = re.compile(r"^(sglang:[a-z_]+)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_RANK_LABELS = ("tp_rank", "pp_rank", "moe_ep_rank", "pid", "ep_rank")
"""Labels that tell apart ranks which say the same thing."""

_GAUGES = {"running": ("num_running_reqs",), "queued": ("num_queue_reqs",), "generated_tok_per_s": ("gen_throughput",)}
_COUNTERS = {
    "prompt_tokens": ("prompt_tokens_total",), "generated_tokens": ("generation_tokens_total",),
    "cached_tokens": ("cached_tokens_total",), "retracted": ("num_retracted_requests_total", "num_retracted_reqs"),
    "aborted": ("num_aborted_requests_total",),
}  # fmt: skip


def read_metrics(page: str, t_s: float) -> ServerSample:
    """One look; `t_s` = when it was taken, in seconds since the start of the run."""
    values: dict[str, dict[tuple[str, ...], float]] = {}
    for line in page.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        value = _number(found[3])
        if value is None:
            continue
        # Equal but for the rank: one group of ranks, whose values are the same thing said several times.
        labels = tuple(sorted(f"{k}={v}" for k, v in _LABEL.findall(found[2] or "") if k not in _RANK_LABELS))
        group = values.setdefault(found[1].removeprefix(PREFIX), {})
        group[labels] = max(value, group.get(labels, value))
    content: dict[str, float | None] = {"t_s": t_s}
    for name, sources in (_GAUGES | _COUNTERS).items():
        content[name] = next((sum(values[source].values()) for source in sources if source in values), None)
    content["kv_fraction"] = max(values["token_usage"].values()) if "token_usage" in values else None
    # The gauge is_cuda_graph is on the page too, and is never set: it said 0 beside 6,345 steps that ran as graphs.
    passes = values.get("cuda_graph_passes_total", {})
    decode = [(labels, number) for labels, number in passes.items() if any("mode=decode" in one for one in labels)]
    if decode:
        content["decode_steps"] = sum(number for _, number in decode)
        content["decode_graph_steps"] = sum(number for labels, number in decode if "mode=decode_cuda_graph" in labels)
    return ServerSample.model_validate(content)


def server_side(samples: Sequence[ServerSample], num_failed: int, window: SteadyWindow | None) -> ServerSide | None:
    """What all looks come to; None without any that says something."""
    told = [one for one in samples if one.running is not None or one.generated_tokens is not None]
    if not told:
        return None
    inside = [one for one in told if window is None or window.start_s <= one.t_s < window.end_s] or told
    steps = _growth([one.decode_steps for one in inside])
    graph_steps = _growth([one.decode_graph_steps for one in inside])
    return ServerSide(
        num_samples=len(samples), num_failed=num_failed,
        mean_running=_mean(one.running for one in inside), max_running=_most(one.running for one in inside),
        mean_queued=_mean(one.queued for one in inside), max_queued=_most(one.queued for one in inside),
        max_kv_fraction=_most(one.kv_fraction for one in inside),
        decode_graph_fraction=graph_steps / steps if steps and graph_steps is not None else None,
        output_tok_per_s=_rate(inside), cached_tokens=_growth([one.cached_tokens for one in told]),
        num_retracted=_growth([one.retracted for one in told]), num_aborted=_growth([one.aborted for one in told]),
        samples=tuple(told[place] for place in _thinned(len(told))),
    )  # fmt: skip


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 else None  # NaN and infinity are no values


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _rate(inside: Sequence[ServerSample]) -> float | None:
    """Tokens that the counter gained over the time between the first and the last look."""
    first, last = inside[0], inside[-1]
    if first.generated_tokens is None or last.generated_tokens is None or last.t_s <= first.t_s:
        return None
    return (last.generated_tokens - first.generated_tokens) / (last.t_s - first.t_s)


def _growth(values: Sequence[float | None]) -> float | None:
    """What a counter gained; a gauge that goes up and down again has gained its rises."""
    known = [value for value in values if value is not None]
    return sum(max(b - a, 0.0) for a, b in itertools.pairwise(known)) if known else None


def _thinned(num: int) -> list[int]:
    if num <= MAX_KEPT:
        return list(range(num))
    return sorted({round(place * (num - 1) / (MAX_KEPT - 1)) for place in range(MAX_KEPT)})
