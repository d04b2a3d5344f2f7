"""How long a busy client waits between two polls, so that one wake-up serves many streams.

Arrivals are stamped by the kernel and sends with a time of their own end the wait, so it costs no accuracy but one: a
user who sends his next request when he has his answer waits for half of it on average, and a closed loop's server has
so many fewer users. Short answers get a short wait.
"""

MAX_PAUSE_NS, FIRST_PAUSE_NS = 3_000_000, 1_000_000
PAUSE_FRACTION = 0.004
"""The wait is at most this of what a user's requests take: his load is right to half of it."""
BUSY_WINDOW_NS = 50_000_000
BUSY_EVENTS = 100
"""So many in that time make a client busy. With fewer there is no wait."""


class Pace:
    """The wait of one load; `is_closed`: some requests follow the end of others."""

    __slots__ = ("_longest_ns", "_num_events", "_num_took", "_took_ns", "_until_ns", "pause_ns")

    def __init__(self, *, is_closed: bool) -> None:
        self.pause_ns = 0
        """Shortest time between two polls."""
        self._longest_ns = FIRST_PAUSE_NS if is_closed else MAX_PAUSE_NS
        self._num_events = self._until_ns = self._took_ns = self._num_took = 0

    def saw(self, num_events: int, now_ns: int) -> None:
        """A poll brought events."""
        self._num_events += num_events
        if now_ns >= self._until_ns:
            self.pause_ns = self._longest_ns if self._num_events >= BUSY_EVENTS else 0
            self._num_events, self._until_ns = 0, now_ns + BUSY_WINDOW_NS

    def took(self, took_ns: int) -> None:
        """A request that another one follows took so long."""
        self._took_ns += took_ns
        self._num_took += 1
        self._longest_ns = min(round(PAUSE_FRACTION * self._took_ns / self._num_took), MAX_PAUSE_NS)
