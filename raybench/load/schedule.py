"""A schedule: every request of a load, fixed before the first one is sent.

A request is sent at a time (`at_s`), or when the one before it in its chain has ended (`slot`, else `session`), after a
pause. Requests of a chain follow each other in the order of their index.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `tokens` ids of the stream that belongs to `seed`: equal seeds are equal tokens."""

    seed: int
    """Seed of the stream."""
    tokens: int
    """Tokens taken from it."""


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """One request, with everything that the client needs to make and send it."""

    index: int
    """Place in the schedule, from 0. Requests with a time ascend in it."""
    at_s: float | None
    """When it is to be sent, in seconds since the start (simulated seconds where scaled); None = after the one before
    it in its chain."""
    slot: int | None
    """User of a closed loop; its requests are one chain. None = no user."""
    session: int | None
    """Conversation; without a slot, its requests are one chain. None = no conversation."""
    turn: int
    """Turn within the conversation, or number of the request within the slot, from 0."""
    prompt_seed: int
    """Seed of the prompt's own tokens, those after its prefixes."""
    prefix: tuple[Prefix, ...]
    """Beginnings that the prompt shares with others, one after the other; empty = none."""
    input_tokens: int
    """Tokens of the whole prompt, prefixes included."""
    output_tokens: int
    """Tokens that the reply must have, exact."""
    pause_s: float = 0.0
    """Time between the end of the request before it in its chain and the sending of this one."""
    text: str | None = None
    """Text of the prompt in place of drawn tokens; `input_tokens` is then not its length."""
    shared_tokens: int = 0
    """Tokens at the beginning of the prompt that an earlier request of this schedule has sent too: what the prefix
    cache may serve, and nothing else."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All requests of a load point."""

    requests: tuple[ScheduledRequest, ...]
    """By index."""
    num_slots: int
    """Users of a closed loop; 0 for loads with times."""

    @property
    def num_requests(self) -> int:
        """Requests of the schedule."""
        return len(self.requests)

    @property
    def is_open(self) -> bool:
        """True if requests have times, so that latency counts from the scheduled time."""
        return self.num_slots == 0
