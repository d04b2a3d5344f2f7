"""The search for the highest load that keeps an SLO: what was tried -> what to try next, or the answer. Pure.

Brackets by doubling and halving, bisects by the geometric mean, and tries the winner again with other arrivals and
prompts: the highest of several noisy probes is a lucky one. A winner that fails then counts as broken, and the search
goes on below it. It is taken that what breaks at one value breaks at every higher one. A probe that says nothing, since
the client was the limit or it stayed too short, is made once more with other arrivals; if that says nothing either, the
search ends and says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from raybench.records.serving import Goodput, LoadFigures, LoadMeasurement

Role = Literal["bracket", "bisect", "confirm"]
Result = Literal["held", "broke", "short", "void"]
"""held, broke = the SLO was kept or not; short = too little was measured; void = it says nothing of the server."""

BURN_IN_SLACK = 2.5
"""The window is to start three median end-to-end times after the first arrival; those of its own requests differ."""
MAX_CPU_FRACTION = 0.9
"""A client that is busier than this is the limit itself."""
MAX_LATENESS_S = 0.1
"""A process of it that sends its latest hundredth later than this is behind, however long the first token takes."""
MAX_LATE_SHARE = 0.1
"""A client that sends later than this share of the time to first token measures itself."""
UNKNOWN_ROUTE = frozenset({404, 405, 501})
"""Answers of a server that cannot say whether it is idle: its probes count, and the report warns of it."""
SIGNIFICANT_DIGITS = 6
MAX_DOUBLINGS = 4
"""A probe is made longer at most so often."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A probe that ended."""

    value: float
    role: Role
    doublings: int
    result: Result
    reason: str
    """Why, in words."""
    again: bool = False
    """It stands in place of one that said nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next probe."""

    value: float
    role: Role
    doublings: int = 0
    """How often it was made longer."""
    again: bool = False
    """In place of the last one, which said nothing: with other arrivals and prompts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a search."""

    value: float | None
    """Highest confirmed value; None = there is none, or it could not be told."""
    reason: str
    """What was found, or why nothing was."""
    broke_at: float | None = None
    """Lowest value that broke the SLO; None = none did."""


def next_step(numbers: Mapping[str, float], tried: Sequence[Tried]) -> Step | Answer:
    """What follows from the probes so far; `numbers` are the rule's."""
    held, broke = _sides(tried)
    last = tried[-1] if tried else None
    unjudged = last is not None and last.result in ("void", "short")
    longer = last is not None and last.result == "short" and last.doublings < MAX_DOUBLINGS
    if last is not None and unjudged and not longer and last.again:
        what = "says nothing" if last.result == "void" else "stayed too short"
        return Answer(_confirmed(tried, broke), f"the probe at {last.value:g} {what} twice: {last.reason}", broke)
    if len(tried) >= numbers["max_probes"]:
        reason = f"no answer after {len(tried)} probes: kept at {_said(held)}, broken at {_said(broke)}"
        return Answer(_confirmed(tried, broke), reason, broke)
    if last is not None and longer:
        return Step(last.value, last.role, last.doublings + 1, last.again)
    if last is not None and unjudged:
        return Step(last.value, last.role, last.doublings, again=True)
    return _advance(numbers, tried, held, broke)


def _advance(
    numbers: Mapping[str, float], tried: Sequence[Tried], held: float | None, broke: float | None
) -> Step | Answer:
    if held is None and broke is None:
        return Step(numbers["start"], "bracket")
    if held is None:
        if broke is not None and broke <= numbers["min"]:
            return Answer(None, f"the SLO is broken at the lowest value, {broke:g}", broke)
        return Step(max(numbers["min"], _grid(numbers, (broke or 0.0) / 2)), "bracket")
    if broke is None and held < numbers["max"]:
        return Step(min(numbers["max"], held * 2), "bracket")
    middle = None if broke is None else _middle(numbers, held, broke)
    if middle is not None:
        return Step(middle, "bisect")
    if _confirmed(tried, broke) != held:
        return Step(held, "confirm")
    if broke is None:
        return Answer(held, f"the SLO is kept at the highest value, {held:g}")
    return Answer(held, f"the SLO is kept at {held:g} and broken at {broke:g}", broke)


def _sides(tried: Sequence[Tried]) -> tuple[float | None, float | None]:
    """Highest value that held below every one that broke, and the lowest that broke."""
    broke = min((one.value for one in tried if one.result == "broke"), default=None)
    held = [one.value for one in tried if one.result == "held" and (broke is None or one.value < broke)]
    return max(held, default=None), broke


def _confirmed(tried: Sequence[Tried], broke: float | None) -> float | None:
    found = [
        one.value
        for one in tried
        if one.role == "confirm" and one.result == "held" and (broke is None or one.value < broke)
    ]
    return max(found, default=None)


def _middle(numbers: Mapping[str, float], held: float, broke: float) -> float | None:
    """A value between the two; None if they are near enough."""
    if broke <= held * (1 + numbers["tolerance_fraction"]) or (numbers["whole"] and broke - held <= 1):
        return None
    middle = _grid(numbers, sqrt(held * broke))
    if numbers["whole"]:
        middle = min(max(middle, held + 1), broke - 1)
    return middle if held < middle < broke else None


def _grid(numbers: Mapping[str, float], value: float) -> float:
    return float(round(value)) if numbers["whole"] else float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _said(value: float | None) -> str:
    return "no value" if value is None else f"{value:g}"


def judge(measurement: LoadMeasurement, numbers: Mapping[str, float], is_longest: bool = False) -> tuple[Result, str]:
    """What one probe says, and why. `is_longest`: it cannot be made longer.

    It counts with a server that was idle before, a client that kept up, a burn-in of three end-to-end times and enough
    requests; a queue that grows after the burn-in breaks every SLO, however good the latencies were so far.
    """
    seen = measurement.figures
    if measurement.drained is False and measurement.flush_status not in UNKNOWN_ROUTE:
        return "void", "the server was not idle before it"
    # Before all that speaks of the server: a client at its own limit makes queues grow as well.
    if (limit := _client_limit(measurement)) is not None:
        return "void", limit
    if measurement.stopped_early is not None:
        return "broke", measurement.stopped_early
    is_short = not numbers["whole"] and _is_short(seen)
    if seen.queue is not None and seen.queue.is_growing:
        grew = f"the queue grew by {seen.queue.growth:.1f} requests over the window"
        is_good = seen.goodput is not None and seen.goodput.holds
        if is_short and is_good and not is_longest:
            return "short", f"{grew}, which began before three end-to-end times had passed"
        return "broke", grew
    if seen.window is None or seen.goodput is None:
        ended = seen.statuses.get("ok", 0)
        return ("short", "no steady part") if ended else ("broke", "no request ended well")
    if seen.window.num_sent < numbers["min_requests"]:
        return "short", f"{seen.window.num_sent} requests in its steady part, fewer than {numbers['min_requests']:.0f}"
    if is_short:
        return "short", f"its burn-in of {seen.window.start_s:.1f} s is shorter than three end-to-end times"
    return _shared(seen, seen.goodput)


def _client_limit(measurement: LoadMeasurement) -> str | None:
    """Why the client was the limit, or None."""
    cpu, late, ttft = measurement.client.max_cpu_fraction, measurement.figures.lateness_s, measurement.figures.ttft_s
    # Real seconds, also where the figures are in simulated ones.
    tail_s = max((one.lateness_p99_s or 0.0 for one in measurement.client.processes), default=0.0)
    if cpu is not None and cpu > MAX_CPU_FRACTION:
        return f"the client was busy for {cpu:.0%} of the time"
    if tail_s > MAX_LATENESS_S:
        return f"a client process sent {1000 * tail_s:.0f} ms late (99th percentile)"
    if late is not None and ttft is not None and late.p50 > MAX_LATE_SHARE * ttft.p50:
        return f"the client sent {1000 * late.p50:.1f} ms late"
    return None


def _is_short(seen: LoadFigures) -> bool:
    """True if the steady part of an open load begins while the load is still starting."""
    return seen.window is not None and seen.e2e_s is not None and seen.window.start_s < BURN_IN_SLACK * seen.e2e_s.p50


def _shared(seen: LoadFigures, good: Goodput) -> tuple[Result, str]:
    """Held or broken by the share of good requests."""
    share = f"{good.num_good} of {good.num_sent} requests were good ({good.good_fraction:.1%})"
    if good.holds:
        return "held", share
    # A client that is late makes requests bad, never good: only what it broke is in doubt.
    late, ttft = seen.lateness_s, seen.ttft_s
    tail_s = None if late is None else late.p99 if good.slo.share >= 0.99 else late.p95
    if tail_s is not None and ttft is not None and tail_s > MAX_LATE_SHARE * ttft.p50:
        return "void", f"{share}, but the client sent {1000 * tail_s:.1f} ms late in the tail that decides"
    return "broke", share
