"""Serving loads: what is asked of a server over time, with nothing left to default.

A load says how requests arrive and how long they are; `raybench.load` makes a schedule of single requests from it and a
seed. A load is part of a key, so it holds nothing that does not change what is measured: an SLO is none of it.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raybench.records.base import Record

MAX_TOKENS = 1_000_000
"""Longest length that a distribution may draw."""

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
"""A length: every request has exactly this many tokens."""


def _check_order(low: int, high: int) -> None:
    if low > high:
        raise ValueError(f"min ({low}) must not be above max ({high})")


class LimitedLength(Record):
    """What distributions with limits have in common."""

    min: Tokens = 1
    """Smallest length."""
    max: Tokens = MAX_TOKENS
    """Largest length."""

    @model_validator(mode="after")
    def _in_order(self) -> "LimitedLength":
        _check_order(self.min, self.max)
        return self


class UniformLength(Record):
    """Every whole number from `min` to `max` is as likely as the next."""

    distribution: Literal["uniform"]
    """Tag of the union."""
    min: Tokens
    """Smallest length."""
    max: Tokens
    """Largest length."""

    @model_validator(mode="after")
    def _in_order(self) -> "UniformLength":
        _check_order(self.min, self.max)
        return self


class NormalLength(LimitedLength):
    """A bell around `mean`; all of it that lies outside of the limits is spread over the inside."""

    distribution: Literal["normal"]
    """Tag of the union."""
    mean: float = Field(gt=0, le=MAX_TOKENS)
    """Mean before the limits cut."""
    deviation: float = Field(gt=0)
    """One standard deviation."""


class LogNormalLength(LimitedLength):
    """A long tail to the right, as the prompts and replies of most services have."""

    distribution: Literal["lognormal"]
    """Tag of the union."""
    median: float = Field(gt=0, le=MAX_TOKENS)
    """Half of the lengths lie below, before the limits cut."""
    sigma: float = Field(gt=0, le=4)
    """Standard deviation of the logarithm; 1 puts a sixth of the lengths above 2.7 times the median."""


class EmpiricalLength(Record):
    """Lengths that were observed: each is drawn as often as it stands here."""

    distribution: Literal["empirical"]
    """Tag of the union."""
    values: tuple[Tokens, ...] = Field(min_length=1)
    """Observed lengths, repeated ones repeated."""


LengthDistribution = Annotated[
    UniformLength | NormalLength | LogNormalLength | EmpiricalLength, Field(discriminator="distribution")
]
Lengths = Tokens | LengthDistribution
"""Lengths of prompts or replies: one number, or a distribution."""

Arrivals = Literal["constant", "poisson", "gamma"]
"""How requests of an open load follow each other: evenly, at random, or in bursts."""


class SharedPrefix(Record):
    """A beginning that prompts have in common, such as a system prompt. Its tokens come on top of the prompt's own."""

    tokens: Tokens
    """Tokens of the common beginning."""
    groups: int = Field(default=1, ge=1)
    """Different beginnings; each request draws one of them."""


class ClosedLoad(Record):
    """A fixed number of users, each of whom sends the next request when the last one has ended."""

    kind: Literal["closed"] = "closed"
    """Tag of the union of load shapes."""
    concurrency: int = Field(ge=1)
    """Users, each of whom has one request in flight."""
    input_tokens: Lengths
    """Prompt lengths."""
    output_tokens: Lengths
    """Reply lengths; every reply has exactly what was drawn (`ignore_eos`)."""
    jitter_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Fixed lengths are spread evenly by this share to both sides. Equal requests that start together end together:
    prefill and decode then march in lockstep, which no real service does. Distributions are left alone."""
    turnovers: int = Field(default=8, ge=1)
    """Requests of each user, beside those that start and end the run. The steady part ends with the quickest user's
    last request, so it holds fewer of the slowest user's: by default five even where lengths differ."""
    prefix: SharedPrefix | None = None
    """Common beginning of prompts; None = nothing is shared."""
    texts: tuple[str, ...] = ()
    """Texts that prompts are made of in place of drawn tokens; `input_tokens` then says nothing. Empty = none."""


class OpenLoad(Record):
    """Requests arrive on their own clock, whatever the server does: latency counts from the scheduled time."""

    kind: Literal["open"] = "open"
    """Tag of the union of load shapes."""
    rate_per_s: float = Field(gt=0)
    """Mean requests per second."""
    arrivals: Arrivals = "poisson"
    """How they follow each other."""
    burstiness: float = Field(default=1.0, gt=0)
    """Gamma arrivals: shape of the gaps; 1 is Poisson, below 1 comes in bursts, above 1 is more even."""
    duration_s: float = Field(gt=0)
    """Time in which requests arrive."""
    input_tokens: Lengths
    """Prompt lengths."""
    output_tokens: Lengths
    """Reply lengths."""
    prefix: SharedPrefix | None = None
    """Common beginning of prompts; None = nothing is shared."""
    texts: tuple[str, ...] = ()
    """Texts that prompts are made of in place of drawn tokens; `input_tokens` then says nothing. Empty = none."""


class RampLoad(Record):
    """An open load whose rate changes evenly from one value to another."""

    kind: Literal["ramp"] = "ramp"
    """Tag of the union of load shapes."""
    start_rate_per_s: float = Field(ge=0)
    """Rate at the start."""
    end_rate_per_s: float = Field(ge=0)
    """Rate at the end."""
    arrivals: Literal["constant", "poisson"] = "poisson"
    """How requests follow each other."""
    duration_s: float = Field(gt=0)
    """Time in which requests arrive."""
    input_tokens: Lengths
    """Prompt lengths."""
    output_tokens: Lengths
    """Reply lengths."""

    @model_validator(mode="after")
    def _something_arrives(self) -> "RampLoad":
        if self.start_rate_per_s == self.end_rate_per_s == 0:
            raise ValueError("a ramp from 0 to 0 requests per second sends nothing")
        return self


class TraceLoad(Record):
    """Requests as a trace recorded them. The columns stand here, so that nodes need no file."""

    kind: Literal["trace"] = "trace"
    """Tag of the union of load shapes."""
    name: str
    """Name of the trace's file, for tables."""
    speed: float = Field(default=1.0, gt=0)
    """Factor on the rate: 2 replays twice as fast."""
    at_s: tuple[float, ...] = Field(min_length=1)
    """Arrival of every request since the first one, in recorded seconds, ascending."""
    input_tokens: tuple[int, ...]
    """Prompt length of every request."""
    output_tokens: tuple[int, ...]
    """Reply length of every request."""
    blocks: tuple[tuple[int, ...], ...] = ()
    """Ids of the blocks that every prompt consists of, in order: equal ids are equal tokens. Empty = nothing shared."""
    block_tokens: int = Field(default=512, ge=1)
    """Tokens of a block; the last one of a prompt may be shorter."""

    @model_validator(mode="after")
    def _columns_agree(self) -> "TraceLoad":
        lengths = {len(self.at_s), len(self.input_tokens), len(self.output_tokens)}
        if len(lengths) != 1 or (self.blocks and len(self.blocks) != len(self.at_s)):
            raise ValueError("all columns of a trace must have the same length")
        if any(later < earlier for earlier, later in zip(self.at_s, self.at_s[1:], strict=False)):
            raise ValueError("the arrivals of a trace must ascend")
        if min(self.input_tokens) < 1 or min(self.output_tokens) < 1:
            raise ValueError("every request of a trace needs at least one token in and out")
        return self


class SessionsLoad(Record):
    """Conversations: each turn's prompt is all that was said before and something new, after time to think."""

    kind: Literal["sessions"] = "sessions"
    """Tag of the union of load shapes."""
    concurrency: int = Field(ge=1)
    """Users, each of whom holds one conversation after the other."""
    sessions: int = Field(default=3, ge=1)
    """Conversations of each user."""
    turns: Lengths
    """Turns of a conversation."""
    system_tokens: int = Field(default=0, ge=0)
    """Tokens of the system prompt, the same in all conversations."""
    input_tokens: Lengths
    """Tokens that each turn adds to the prompt."""
    output_tokens: Lengths
    """Reply lengths. The next prompt holds as many stand-in tokens in place of the reply, since the schedule is fixed
    before the run."""
    think_s: float = Field(default=0, ge=0)
    """Mean pause of the user between a reply and the next turn; pauses are drawn from an exponential distribution."""


ServingLoad = Annotated[ClosedLoad | OpenLoad | RampLoad | TraceLoad | SessionsLoad, Field(discriminator="kind")]
"""A serving load of any shape."""


class Slo(Record):
    """What users accept, per request: those that keep all of it are good. Latency of an open load counts from the
    scheduled time. None = no limit on that quantity."""

    ttft_ms: float | None = Field(default=None, gt=0)
    """Longest time to first token."""
    ttft_ms_per_1k_input: float = Field(default=0, ge=0)
    """Added to `ttft_ms` for every 1,000 prompt tokens: long prompts may take longer."""
    tpot_ms: float | None = Field(default=None, gt=0)
    """Longest mean time per output token after the first."""
    longest_gap_ms: float | None = Field(default=None, gt=0)
    """Longest silence between two reads of a reply."""
    e2e_s: float | None = Field(default=None, gt=0)
    """Longest time until the last token."""
    share: float = Field(default=0.99, gt=0, le=1)
    """Share of the requests that were sent that must be good for the SLO to hold."""

    @model_validator(mode="after")
    def _something_is_limited(self) -> "Slo":
        if self.ttft_ms is None and self.tpot_ms is None and self.longest_gap_ms is None and self.e2e_s is None:
            raise ValueError("an SLO needs at least one of ttft_ms, tpot_ms, longest_gap_ms and e2e_s")
        return self
