"""Rates of faults among the samples of an eval, while it runs and when it has ended. Pure.

Replies that are cut or that loop are the longest ones, so they end last: among the samples that have *ended* their
share is too low at first, and the share of every other fault is too high. Rates are therefore about the samples that
were *started*; one that is still in flight may yet turn out either way, and both bounds say so.
"""

from collections.abc import Iterable, Mapping

from pydantic import Field

from raybench.records import Record, Sign
from raybench.stats.distributions import wilson

SIGNS: tuple[Sign, ...] = ("truncated", "unparsed", "errored", "empty", "looping", "run_on")
_ONE_SIDED = 0.95


class Rate(Record):
    """How many of the started samples bear a sign."""

    num: int = Field(ge=0)
    """Samples that ended and bear it."""
    num_ended: int = Field(ge=0)
    """Samples that ended."""
    num_started: int = Field(ge=0)
    """Samples that were sent: those that ended and those in flight."""
    low: float = Field(ge=0, le=1)
    """One-sided 95% lower bound (Wilson), as if none in flight bore it; 0 without any sample."""
    high: float = Field(ge=0, le=1)
    """One-sided 95% upper bound (Wilson), as if all in flight bore it; 1 without any sample."""

    @property
    def fraction(self) -> float | None:
        """Share among the ended samples: biased while others are in flight. None before any ended."""
        return self.num / self.num_ended if self.num_ended else None


def rate(num: int, num_ended: int, num_started: int) -> Rate:
    """A rate with its bounds. Raises ValueError when the numbers do not fit each other."""
    if not 0 <= num <= num_ended <= num_started:
        raise ValueError(f"{num} of {num_ended} ended of {num_started} started samples cannot be")
    if num_started == 0:
        return Rate(num=0, num_ended=0, num_started=0, low=0.0, high=1.0)
    # The ends of a two-sided 90% interval are the one-sided 95% bounds.
    low, _ = wilson(num, num_started, 2 * _ONE_SIDED - 1)
    _, high = wilson(num + num_started - num_ended, num_started, 2 * _ONE_SIDED - 1)
    return Rate(num=num, num_ended=num_ended, num_started=num_started, low=low, high=high)


def rates(signs: Iterable[frozenset[Sign]], num_in_flight: int = 0) -> Mapping[Sign, Rate]:
    """The rate of every sign, from the signs of the samples that ended."""
    counts = dict.fromkeys(SIGNS, 0)
    num_ended = 0
    for borne in signs:
        num_ended += 1
        for sign in borne:
            counts[sign] += 1
    return {sign: rate(number, num_ended, num_ended + num_in_flight) for sign, number in counts.items()}
