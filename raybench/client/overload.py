"""When to end a load that the server will never catch up with: a pure rule over what was counted so far.

While a load starts, its backlog grows from nothing to rate times end-to-end time on any server. So the rule waits until
the first requests have ended, and then measures how far the endings lie behind the arrivals: in a healthy load by an
end-to-end time, however the rate varies; in an overload by ever more.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Count:
    """What stood at a moment."""

    t_s: float
    """Seconds since the start."""
    num_due: int
    """Requests whose time had come."""
    num_ended: int
    """Requests that had ended."""
    num_first_ended: int
    """Those of them that were among the first `OverloadRule.num_first` of the schedule."""

    @property
    def backlog(self) -> int:
        """Requests under way or waiting."""
        return self.num_due - self.num_ended


@dataclass(frozen=True, slots=True)
class OverloadRule:
    """After the start, the backlog grew in each of the last slices of time, too few requests ended in them, and the lag
    has become a multiple of what it was at the end of the start."""

    slice_s: float = 2.0
    """Length of a slice in seconds."""
    num_slices: int = 5
    """Slices that must all agree."""
    num_first: int = 64
    """The start is over when so many first requests of the schedule have all ended. Any so many would not do: where one
    reply in ten is very long, the backlog grows until those end too."""
    min_growth: float = 3.0
    """Lag over that at the end of the start. Less is no proof: the first requests meet small batches, and a server that
    keeps up takes some 2.5 times as long once its batches are full."""
    min_backlog: int = 64
    """A smaller backlog ends nothing."""
    max_ended_fraction: float = 0.9
    """Requests that ended over requests that came due in these slices."""


def overload(counts: Sequence[Count], rule: OverloadRule) -> str | None:
    """Why the load can be ended, or None. `counts` in order of time, at least one a slice."""
    edges = _edges(counts, rule)
    started = bisect_left(counts, rule.num_first, key=lambda count: count.num_first_ended)
    if len(edges) <= rule.num_slices or started == len(counts) or edges[0].t_s < counts[started].t_s:
        return None
    first, last = edges[0], edges[-1]
    due, ended = last.num_due - first.num_due, last.num_ended - first.num_ended
    if (
        last.backlog < rule.min_backlog
        or ended > rule.max_ended_fraction * due
        or not all(b.backlog > a.backlog for a, b in pairwise(edges))
        or _lag_s(counts, last) < rule.min_growth * _lag_s(counts, counts[started])
    ):
        return None
    return (
        f"overload: in {last.t_s - first.t_s:.0f} s {due} requests came due and {ended} ended; the backlog grew from "
        f"{first.backlog} to {last.backlog}"
    )


def _edges(counts: Sequence[Count], rule: OverloadRule) -> list[Count]:
    """Counts between the last slices, the oldest one first; fewer where there are not so many slices yet."""
    edges: list[Count] = []
    wanted_s = counts[-1].t_s if counts else 0.0
    for count in reversed(counts):
        if count.t_s <= wanted_s:
            edges.append(count)
            wanted_s = count.t_s - rule.slice_s
        if len(edges) > rule.num_slices:
            break
    return edges[::-1]


def _lag_s(counts: Sequence[Count], count: Count) -> float:
    """How long ago as many requests had come due as have ended by now: their end-to-end time, where they end in
    order."""
    place = bisect_left(counts, count.num_ended, key=lambda one: one.num_due)
    after = counts[place]
    if place == 0:
        return count.t_s - after.t_s
    before = counts[place - 1]
    share = (count.num_ended - before.num_due) / (after.num_due - before.num_due)
    return count.t_s - before.t_s - share * (after.t_s - before.t_s)
