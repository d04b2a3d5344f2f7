"""The steady part of a run, and whether it is one. Pure.

Rules. *Closed loops*: from when the last user has ended its first request (the cohort, which starts all at once and is
cut short) until the first user has ended its last one: every user is busy in between. *Loads with times*: from three
median end-to-end times after the first arrival until the last arrival; where that leaves less than half, the second
half, since a latency that grows without end has no burn-in.
"""

import numpy as np

from raybench.records.serving import QueueTrend, SteadyWindow
from raybench.stats.columns import NEVER, OK, Floats, Ints, RequestColumns
from raybench.stats.distributions import t_quantile

BURN_IN_TIMES = 3.0
"""End-to-end times that a load with arrival times needs until its queues are as they stay."""
NUM_PARTS = 10
"""Parts of the window whose means the trend is drawn through: longer than a request, so that they are independent."""


def closed_window_ns(columns: RequestColumns) -> tuple[int, int] | None:
    """The steady part of a closed loop; None if there is none."""
    ended = columns.end_ns != NEVER
    slots = columns.slot[ended]
    if not len(slots) or (columns.slot < 0).any():
        return None
    num = int(columns.slot.max()) + 1
    first = np.full(num, np.iinfo(np.int64).max)
    last = np.full(num, NEVER)
    np.minimum.at(first, slots, columns.end_ns[ended])
    np.maximum.at(last, slots, columns.end_ns[ended])
    start, end = int(first.max()), int(last.min())
    # A user without a single end leaves its first time at the largest number.
    return (start, end) if start < end else None


def open_window_ns(columns: RequestColumns) -> tuple[int, int] | None:
    """The steady part of a load with arrival times; None if there is none."""
    good = columns.ok
    if not good.any():
        return None
    # What was never due, because the client stopped before, has no time.
    due_ns = columns.scheduled_ns[columns.scheduled_ns != NEVER]
    start, end = int(due_ns.min()), int(due_ns.max())
    burn_in = BURN_IN_TIMES * float(np.median(columns.end_ns[good] - columns.scheduled_ns[good]))
    start += int(min(burn_in, (end - start) / 2))
    return (start, end) if start < end else None


def under_way(columns: RequestColumns, *, from_schedule: bool) -> tuple[Ints, Ints]:
    """Times at which the number of requests under way changes, and the number from each of them on."""
    sent = columns.sent | (columns.end_ns != NEVER)
    begins = (columns.scheduled_ns if from_schedule else columns.sent_ns)[sent]
    ends = columns.end_ns[sent]
    ends = ends[ends != NEVER]
    times = np.concatenate([begins, ends])
    steps = np.concatenate([np.ones(len(begins), dtype=np.int64), -np.ones(len(ends), dtype=np.int64)])
    # Ends before begins of the same moment: a user that sends at once is one request, not two.
    order = np.argsort(2 * times + (steps > 0), kind="stable")
    return times[order], np.cumsum(steps[order])


def mean_between(times: Ints, numbers: Ints, edges: Floats) -> Floats:
    """Mean number under way in every part between two edges."""
    if not len(times):
        return np.zeros(len(edges) - 1)
    lengths = np.diff(times, append=times[-1]).astype(np.float64)
    area = np.concatenate([[0.0], np.cumsum(lengths * numbers)])
    place = np.searchsorted(times, edges, side="right")
    before = np.maximum(place - 1, 0)
    at_edge = area[before] + np.where(place > 0, (edges - times[before]) * numbers[before], 0.0)
    return np.diff(at_edge) / np.diff(edges)


def queue_trend(times: Ints, numbers: Ints, window_ns: tuple[int, int]) -> QueueTrend:
    """A line through the means of the window's parts, with the lower end of its one-sided 99% interval."""
    means = mean_between(times, numbers, np.linspace(*window_ns, NUM_PARTS + 1))
    place = (np.arange(NUM_PARTS) + 0.5) / NUM_PARTS - 0.5
    spread = float(np.dot(place, place))
    growth = float(np.dot(place, means)) / spread
    residuals = means - means.mean() - growth * place
    error = float(np.sqrt(np.dot(residuals, residuals) / (NUM_PARTS - 2) / spread))
    low = growth - t_quantile(0.99, NUM_PARTS - 2) * error
    return QueueTrend(mean=float(means.mean()), growth=growth, growth_low=low)


def coherence(columns: RequestColumns, window_ns: tuple[int, int]) -> float | None:
    """How much the sendings of a closed loop bunch together, from 0 to 1; None with fewer than 30 of them.

    The length of the mean vector of their phases, for the period near the mean duration of a request that makes it
    largest (Rayleigh's statistic). Independent sendings give about 2 over the root of their number.
    """
    inside = (columns.sent_ns >= window_ns[0]) & (columns.sent_ns < window_ns[1]) & columns.ok
    sent = columns.sent_ns[inside].astype(np.float64)
    if len(sent) < 30:
        return None
    period = float((columns.end_ns[inside] - columns.sent_ns[inside]).mean())
    periods = period * np.linspace(0.8, 1.25, 46)
    phases = np.exp(2j * np.pi * (sent[None, :] - sent[0]) / periods[:, None])
    return float(np.abs(phases.mean(axis=1)).max())


def window_record(columns: RequestColumns, window_ns: tuple[int, int], origin_ns: int, scale_s: float) -> SteadyWindow:
    """The window as it is written down; `scale_s` = seconds of a nanosecond."""
    begins = columns.sent_ns if (columns.slot >= 0).all() else columns.scheduled_ns
    start, end = window_ns
    return SteadyWindow(
        start_s=(start - origin_ns) * scale_s,
        end_s=(end - origin_ns) * scale_s,
        num_sent=int(((begins >= start) & (begins < end)).sum()),
        num_ended=int(((columns.end_ns >= start) & (columns.end_ns < end) & (columns.status == OK)).sum()),
    )
