"""Which nodes do not answer. A pure state machine beside the dispatcher, told the time.

Ray takes a process that is paused, or a machine behind a torn line, for alive for a minute or for ever. Whatever such a
node is given waits, so that it is asked for a sign of life every few seconds: one that has not answered for a while is
suspect and gets nothing new, and one that is suspect for long is lost. One question at a time is open for each node,
and one that has just sent a result is not asked, unless it has a lease: what it sends tells it nothing of its driver.

A driver that was itself busy or stopped has heard of nothing: when a look comes late, every open question counts from
that look, and a suspect's as if it had just become one.
"""

from dataclasses import dataclass

PING_EVERY_S = 2.0
"""Between two looks, and two questions to one node."""
SUSPECT_AFTER_S = 10.0
"""Without an answer."""
LOST_AFTER_S = 300.0
"""Without an answer: far longer than Ray takes to notice the death of a machine (14 s) or of a line (65 s)."""
LATE_FACTOR = 2.0
"""A look that comes so many times later than planned says that the driver itself was away."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A node that does not answer."""

    node: str
    quiet_s: float
    """Since it was asked."""
    lost: bool
    """False: it is suspect from now on. True: it has been for too long."""

    @property
    def reason(self) -> str:
        """In words."""
        return f"no answer for {self.quiet_s:.0f} s"


@dataclass(slots=True)
class _Asked:
    since_s: float
    suspect: bool = False
    lost: bool = False


class Heartbeats:
    """What was asked and not answered yet."""

    def __init__(self, every_s: float = PING_EVERY_S, *, leased: bool = False) -> None:
        """`every_s`: how often `look` is going to be called. `leased`: every question renews the lease of a node."""
        self._every_s = every_s
        self._leased = leased
        self._asked: dict[str, _Asked] = {}
        self._heard_s: dict[str, float] = {}
        self._looked_s: float | None = None

    def heard(self, node: str, now_s: float) -> None:
        """The node has said something of its own accord."""
        self._heard_s[node] = now_s

    def asked(self, node: str, now_s: float) -> bool:
        """True if the node is to be asked now; False while a question is open, or when one without a lease has just
        been heard."""
        just_heard = now_s - self._heard_s.get(node, -self._every_s) < self._every_s
        if node in self._asked or (just_heard and not self._leased):
            return False
        self._asked[node] = _Asked(now_s)
        return True

    def answered(self, node: str) -> bool:
        """The node has answered; True if it was suspect, and is well again."""
        asked = self._asked.pop(node, None)
        return asked is not None and asked.suspect and not asked.lost

    def look(self, now_s: float) -> list[Silence]:
        """What is to be said of silent nodes now; each is told once as suspect and once as lost."""
        late = self._looked_s is not None and now_s - self._looked_s > LATE_FACTOR * self._every_s
        self._looked_s = now_s
        found: list[Silence] = []
        for node, asked in self._asked.items():
            if late:
                asked.since_s = now_s - (SUSPECT_AFTER_S if asked.suspect else 0.0)
            quiet_s = now_s - asked.since_s
            if not asked.suspect and quiet_s >= SUSPECT_AFTER_S:
                asked.suspect = True
                found.append(Silence(node, quiet_s, lost=False))
            elif asked.suspect and not asked.lost and quiet_s >= LOST_AFTER_S:
                asked.lost = True
                found.append(Silence(node, quiet_s, lost=True))
        return found
