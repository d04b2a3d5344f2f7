"""How long a busy client waits between two polls, so that one wake-up serves many streams.

Arrivals are stamped by the kernel and sends with a time of their own end the wait, so it may cost accuracy in two ways
only, and is kept short for both. Two tokens of one stream that come during one wait are one read with one time: the
wait is at most a quarter of the time between a stream's reads. And a user who sends his next request when he has his
answer waits for half of it on average, so that a closed loop's server has so many fewer users.
"""

MAX_PAUSE_NS, FIRST_PAUSE_NS = 3_000_000, 1_000_000
PAUSE_FRACTION = 0.004
"""The wait is at most this of what a user's requests take: his load is right to half of it."""
PAUSES_PER_GAP = 4
BUSY_WINDOW_NS = 50_000_000
BUSY_EVENTS = 100
"""So many in that time make a client busy. With fewer, or where polls are as rare as that, there is no wait."""


class Pace:
    """The wait of one load; `is_closed`: some requests follow the end of others."""

    __slots__ = ("_longest_ns", "_num_events", "_num_took", "_since_ns", "_took_ns", "pause_ns")

    def __init__(self, *, is_closed: bool) -> None:
        self.pause_ns = 0
        """Shortest time between two polls."""
        self._longest_ns = FIRST_PAUSE_NS if is_closed else MAX_PAUSE_NS
        self._num_events = self._since_ns = self._took_ns = self._num_took = 0

    def saw(self, num_events: int, num_streams: int, now_ns: int) -> None:
        """A poll brought events while so many streams flowed."""
        self._num_events += num_events
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns < BUSY_WINDOW_NS:
            return
        self.pause_ns = 0
        if self._num_events >= BUSY_EVENTS and elapsed_ns < 2 * BUSY_WINDOW_NS:
            # Reads that a wait has joined are missing here: the next wait is then shorter, until none are.
            gap_ns = num_streams * elapsed_ns // self._num_events
            self.pause_ns = min(self._longest_ns, gap_ns // PAUSES_PER_GAP)
        self._num_events, self._since_ns = 0, now_ns

    def took(self, took_ns: int) -> None:
        """A request that another one follows took so long."""
        self._took_ns += took_ns
        self._num_took += 1
        self._longest_ns = min(round(PAUSE_FRACTION * self._took_ns / self._num_took), MAX_PAUSE_NS)
