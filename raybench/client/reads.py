"""When every read of a load was, kept in the order of reading, so that a read costs four appends and nothing else.

A load of 100,000 tokens a second leaves ten microseconds for each. What can be computed afterwards for all reads at
once is not computed while they come: the kernel's stamps stay as the kernel wrote them, beside the offset of the two
clocks that the poll before them measured.
"""

import struct
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

WALL = struct.Struct("qq")
"""A `struct timespec` of the wall clock, as `SO_TIMESTAMPNS` gives it."""
PLAUSIBLE_NS = 1_000_000_000
"""A stamp further off is of before a step of the wall clock; the process's own time stands for it."""
_S_NS = 1_000_000_000


class ReadLog:
    """Reads of one load. Appending to `walls`, `places` and `seen_ns` together is adding a read."""

    __slots__ = ("_firsts", "_offsets_ns", "offset_ns", "places", "polled_ns", "seen_ns", "unstamped", "walls")

    def __init__(self) -> None:
        self.walls = bytearray()
        """When the last byte of each read came: `WALL`, 16 bytes a read."""
        self.places = array("i")
        """The request that it answers."""
        self.seen_ns = array("q")
        """When the process had it, on `perf_counter_ns`."""
        self.unstamped, self.polled_ns = array("q"), array("q")
        """Numbers of the reads that the kernel did not stamp (TLS), and when the poll that announced each returned."""
        self.offset_ns = 0
        """Wall clock minus `perf_counter_ns`, of the newest poll."""
        self._firsts, self._offsets_ns = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.places)

    def begin_poll(self, offset_ns: int) -> None:
        """The reads that follow were announced by one poll; `offset_ns` was measured right after it."""
        self.offset_ns = offset_ns
        self._firsts.append(len(self.places))
        self._offsets_ns.append(offset_ns)

    def add(self, place: int, wall: bytes, seen_ns: int, polled_ns: int) -> None:
        """Add a read that a poll at `polled_ns` announced; one without a stamp came when the process had it."""
        if not wall:
            wall = wall_of(seen_ns + self.offset_ns)
            self.unstamped.append(len(self.places))
            self.polled_ns.append(polled_ns)
        self.walls += wall
        self.places.append(place)
        self.seen_ns.append(seen_ns)

    def newest_ns(self, sent_ns: int) -> int:
        """When the newest read came, on `perf_counter_ns`; `sent_ns`: when its request was sent."""
        t_ns, seen_ns = wall_ns(self.walls[-WALL.size :]) - self.offset_ns, self.seen_ns[-1]
        return t_ns if sent_ns <= t_ns <= seen_ns + PLAUSIBLE_NS else seen_ns

    def times_ns(self, sent_ns: Sequence[int]) -> Ints:
        """When every read came, on `perf_counter_ns`; `sent_ns`: when each request was sent."""
        walls = np.frombuffer(self.walls, np.int64).reshape(-1, 2)
        per_poll = np.diff(np.append(np.array(self._firsts, np.int64), len(self)))
        t_ns = walls[:, 0] * _S_NS + walls[:, 1] - np.repeat(np.array(self._offsets_ns, np.int64), per_poll)
        sent, seen = np.array(sent_ns, np.int64)[np.array(self.places, np.int64)], np.array(self.seen_ns, np.int64)
        return np.where((sent <= t_ns) & (t_ns <= seen + PLAUSIBLE_NS), t_ns, seen)


class ReadsByRequest:
    """Times of the reads of each request, and how late the process was with each."""

    def __init__(self, log: ReadLog, sent_ns: Sequence[int]) -> None:
        times_ns, places = log.times_ns(sent_ns), np.array(log.places, np.int64)
        self.lags_ns: Ints = np.array(log.seen_ns, np.int64) - times_ns
        """Time between each read's coming and the process having it, in the order of reading. Without a stamp of the
        kernel nobody knows when it came: at the latest when its poll returned, so that the lag is at least the time
        since then, and not 0."""
        if log.unstamped:
            numbers = np.array(log.unstamped, np.int64)
            self.lags_ns[numbers] = np.array(log.seen_ns, np.int64)[numbers] - np.array(log.polled_ns, np.int64)
        self._times_ns = times_ns[np.argsort(places, kind="stable")]
        self._ends = np.cumsum(np.bincount(places, minlength=len(sent_ns)))

    def of(self, place: int) -> list[int]:
        """Times of the reads of one request."""
        first = 0 if place == 0 else int(self._ends[place - 1])
        return self._times_ns[first : int(self._ends[place])].tolist()


def wall_ns(wall: bytes | bytearray) -> int:
    """A stamp of the wall clock in nanoseconds."""
    seconds, nanoseconds = WALL.unpack(wall)
    return seconds * _S_NS + nanoseconds


def wall_of(ns: int) -> bytes:
    """A time of the wall clock as the kernel writes it."""
    return WALL.pack(*divmod(ns, _S_NS))


def percentiles_s(values_s: NDArray[np.floating[Any]]) -> tuple[float | None, float | None, float | None]:
    """Median, 99th percentile and most; None of nothing."""
    if not len(values_s):
        return None, None, None
    p50, p99 = np.percentile(values_s, [50, 99])
    return float(p50), float(p99), float(values_s.max())
