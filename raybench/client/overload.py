"""When to end a load that the server will never catch up with: a pure rule over what was counted so far."""

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

    @property
    def backlog(self) -> int:
        """Requests under way or waiting."""
        return self.num_due - self.num_ended


@dataclass(frozen=True, slots=True)
class OverloadRule:
    """The backlog grew in each of the last slices of time, to a multiple of what it was, and too few requests ended."""

    slice_s: float = 2.0
    """Length of a slice in seconds."""
    num_slices: int = 5
    """Slices that must all agree."""
    min_growth: float = 2.0
    """Backlog at the end over that at the start of these slices."""
    min_backlog: int = 64
    """A smaller backlog ends nothing."""
    max_ended_fraction: float = 0.9
    """Requests that ended over requests that came due in these slices."""


def overload(counts: Sequence[Count], rule: OverloadRule) -> str | None:
    """Why the load can be ended, or None. `counts` in order of time, at least one a slice."""
    edges: list[Count] = []
    wanted_s = counts[-1].t_s if counts else 0.0
    for count in reversed(counts):
        if count.t_s <= wanted_s:
            edges.append(count)
            wanted_s = count.t_s - rule.slice_s
        if len(edges) > rule.num_slices:
            break
    if len(edges) <= rule.num_slices:
        return None
    edges.reverse()
    first, last = edges[0], edges[-1]
    due, ended = last.num_due - first.num_due, last.num_ended - first.num_ended
    grows = all(b.backlog > a.backlog for a, b in pairwise(edges))
    if (
        not grows
        or last.backlog < max(rule.min_backlog, rule.min_growth * first.backlog)
        or ended > rule.max_ended_fraction * due
    ):
        return None
    return (
        f"overload: in {last.t_s - first.t_s:.0f} s {due} requests came due and {ended} ended; the backlog grew from "
        f"{first.backlog} to {last.backlog}"
    )
