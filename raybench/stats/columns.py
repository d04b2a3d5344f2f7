"""Columns of requests and of reads: a million requests are arrays, not objects. Pure.

All times are nanoseconds on one clock; -1 = never happened.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NEVER = -1
"""Time that never came, count that nobody gave."""

STATUSES = ("ok", "http_error", "timeout", "cut", "unsent")
"""How a request ended, by its code in `RequestColumns.status`."""
OK, UNSENT = 0, 4


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """One entry a request, in the order of the schedule."""

    index: Ints
    """Place in the schedule."""
    slot: Ints
    """User of a closed loop; -1 = none."""
    scheduled_ns: Ints
    """When it was to be sent; for chains the end of the one before plus the pause."""
    sent_ns: Ints
    """When its bytes were written."""
    first_ns: Ints
    """Read of its first token."""
    end_ns: Ints
    """Read of its last token, or the moment of its failure."""
    status: Ints
    """Place in `STATUSES`."""
    asked_input_tokens: Ints
    """Prompt tokens that were sent."""
    asked_output_tokens: Ints
    """Reply tokens that were asked for."""
    input_tokens: Ints
    """Prompt tokens as the server counted them."""
    output_tokens: Ints
    """Reply tokens as the server counted them."""
    cached_tokens: Ints
    """Prompt tokens from the prefix cache."""
    shared_tokens: Ints
    """Prompt tokens that the schedule meant to be there."""
    first_tokens: Ints
    """Tokens of the first read."""
    longest_gap_ns: Ints
    """Longest time between two reads with tokens."""
    queue_ns: Ints
    """Time in the server's queue."""
    retractions: Ints
    """Times that the scheduler took it back."""

    @property
    def num(self) -> int:
        """Requests."""
        return len(self.index)

    @property
    def sent(self) -> Bools:
        """Those that were sent."""
        return self.sent_ns != NEVER

    @property
    def ok(self) -> Bools:
        """Those that ended well, with at least one token that was timed."""
        return (self.status == OK) & (self.first_ns != NEVER) & (self.end_ns != NEVER)

    def where(self, mask: Bools) -> Self:
        """Only some of them."""
        return type(self)(*(getattr(self, field.name)[mask] for field in fields(self)))

    @classmethod
    def joined(cls, parts: "list[RequestColumns]") -> "RequestColumns":
        """Columns of several client processes, by the place in the schedule."""
        columns = [np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)]
        order = np.argsort(columns[0], kind="stable")
        return cls(*(column[order] for column in columns))


@dataclass(frozen=True, slots=True)
class ReadColumns:
    """Reads that brought tokens, request after request."""

    starts: Ints
    """First read of every request, and at the end the number of all reads."""
    t_ns: Ints
    """Time of every read."""
    tokens: Ints
    """Tokens that it brought."""

    @property
    def request(self) -> Ints:
        """Place of the request that every read belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
