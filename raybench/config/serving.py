"""Sweeps over serving loads: entries under `perf` whose `load` is not `one_batch`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from raybench.config.names import Name
from raybench.records import Record
from raybench.records.loads import Arrivals, Lengths, SharedPrefix, Slo
from raybench.records.units import LoadRoute


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) != len(values):
        raise ValueError("the values of a sweep must be distinct")
    return values


Rates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_distinct)]
Users = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_distinct)]


class ServingSweep(Record):
    """What all sweeps over serving loads have in common."""

    route: LoadRoute = "generate"
    """Route that the requests take: `generate` sends token ids; `chat` and `completions` are OpenAI's."""
    repeats: int = Field(default=1, ge=1)
    """Runs of every point on one launch, each with prompts and arrivals of its own."""
    launches: int = Field(default=1, ge=1)
    """Engine starts over which everything is repeated."""
    timeout_s: float = Field(default=1800, gt=0)
    """Limit of one unit in seconds."""


class PointSweep(ServingSweep):
    """What sweeps over given points have in common."""

    slo: Slo | None = None
    """What users accept; None = no goodput. Never part of a key."""


class ClosedSweep(PointSweep):
    """A sweep over the number of users, each of whom has one request in flight."""

    name: Name = "closed"
    """Name in tables."""
    load: Literal["closed"]
    """Kind of load."""
    concurrency: Users
    """Numbers of users, each one load point."""
    input_tokens: Lengths
    """Prompt lengths: one number, or a distribution."""
    output_tokens: Lengths
    """Reply lengths: one number, or a distribution."""
    jitter_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Spread of fixed lengths to both sides; 0 lets prefill and decode march in lockstep."""
    turnovers: int = Field(default=8, ge=1)
    """Requests of each user, beside those that start and end the run; the steady part holds somewhat fewer."""
    min_requests: int = Field(default=1, ge=1)
    """Requests of a point, all users together: few users make more of them than `turnovers`, so that their percentiles
    have samples behind them too."""
    prefix: SharedPrefix | None = None
    """Common beginning of prompts."""
    texts: str | None = None
    """File on the driver's machine with one prompt a line, as text or as JSON with `text` or `prompt`; None = drawn
    tokens. Prompts are then as long as the texts are."""


class OpenSweep(PointSweep):
    """A sweep over arrival rates."""

    name: Name = "open"
    """Name in tables."""
    load: Literal["open"]
    """Kind of load."""
    rates: Rates
    """Mean requests per second, each one load point."""
    arrivals: Arrivals = "poisson"
    """How requests follow each other."""
    burstiness: float = Field(default=1.0, gt=0)
    """Gamma arrivals: below 1 comes in bursts, above 1 is more even than Poisson."""
    duration_s: float = Field(default=60, gt=0)
    """Time in which requests arrive, burn-in included."""
    input_tokens: Lengths
    """Prompt lengths: one number, or a distribution."""
    output_tokens: Lengths
    """Reply lengths: one number, or a distribution."""
    prefix: SharedPrefix | None = None
    """Common beginning of prompts."""
    texts: str | None = None
    """File on the driver's machine with one prompt a line, as text or as JSON with `text` or `prompt`; None = drawn
    tokens. Prompts are then as long as the texts are."""

    @model_validator(mode="after")
    def _burstiness_is_used(self) -> "OpenSweep":
        if self.arrivals != "gamma" and self.burstiness != 1:
            raise ValueError("burstiness belongs to arrivals: gamma")
        return self


class RampSweep(PointSweep):
    """One ramp from a rate to another."""

    name: Name = "ramp"
    """Name in tables."""
    load: Literal["ramp"]
    """Kind of load."""
    start_rate: float = Field(ge=0)
    """Requests per second at the start."""
    end_rate: float = Field(ge=0)
    """Requests per second at the end."""
    arrivals: Literal["constant", "poisson"] = "poisson"
    """How requests follow each other."""
    duration_s: float = Field(default=60, gt=0)
    """Time in which requests arrive."""
    input_tokens: Lengths
    """Prompt lengths: one number, or a distribution."""
    output_tokens: Lengths
    """Reply lengths: one number, or a distribution."""


class TraceSweep(PointSweep):
    """A recorded trace, sent again at one or several speeds."""

    name: Name = "trace"
    """Name in tables."""
    load: Literal["trace"]
    """Kind of load."""
    path: str = Field(min_length=1)
    """JSON lines on the machine of the driver: `at_s`, `input_tokens`, `output_tokens`, `prefix_ids`, or Mooncake's."""
    speeds: Rates = (1.0,)
    """Factors on the rate, each one load point."""
    max_requests: int = Field(default=1000, ge=1, le=50_000)
    """Requests that are taken, from the start of the file."""
    block_tokens: int = Field(default=512, ge=1)
    """Tokens of the block that one prefix id stands for."""


class SessionsSweep(PointSweep):
    """A sweep over the number of users that hold conversations."""

    name: Name = "sessions"
    """Name in tables."""
    load: Literal["sessions"]
    """Kind of load."""
    concurrency: Users
    """Numbers of users, each one load point."""
    sessions: int = Field(default=3, ge=1)
    """Conversations of each user."""
    turns: Lengths
    """Turns of a conversation."""
    system_tokens: int = Field(default=0, ge=0)
    """Tokens of the system prompt that all conversations share."""
    input_tokens: Lengths
    """Tokens that each turn adds."""
    output_tokens: Lengths
    """Reply lengths."""
    think_s: float = Field(default=0, ge=0)
    """Mean pause between a reply and the next turn."""


class SloSearch(ServingSweep):
    """The highest rate or concurrency that keeps an SLO, found by bracketing and bisection."""

    name: Name = "slo-search"
    """Name in tables."""
    load: Literal["slo_search"]
    """Kind of load."""
    slo: Slo
    """What is to be kept."""
    over: Literal["rate", "concurrency"]
    """What is searched: requests per second of an open load, or users of a closed one."""
    start: float = Field(gt=0)
    """First value that is tried; a guess."""
    min: float = Field(gt=0)
    """Lowest value that is tried."""
    max: float = Field(gt=0)
    """Highest value that is tried."""
    tolerance_fraction: float = Field(default=0.05, gt=0, lt=1)
    """The search ends when the lowest value that broke the SLO is at most this share above the highest that kept it."""
    max_probes: int = Field(default=20, ge=2)
    """Probes at most, confirmations included."""
    arrivals: Arrivals = "poisson"
    """How requests of an open load follow each other."""
    burstiness: float = Field(default=1.0, gt=0)
    """Gamma arrivals: below 1 comes in bursts, above 1 is more even than Poisson."""
    duration_s: float = Field(default=60, gt=0)
    """Time in which requests of an open load arrive; a probe whose steady part is too short is made again, longer."""
    max_duration_s: float = Field(default=600, gt=0)
    """Longest time of one probe."""
    min_requests: int = Field(default=100, ge=10)
    """Requests that the steady part of a probe must hold to count."""
    input_tokens: Lengths
    """Prompt lengths: one number, or a distribution."""
    output_tokens: Lengths
    """Reply lengths: one number, or a distribution."""
    prefix: SharedPrefix | None = None
    """Common beginning of prompts."""

    @model_validator(mode="after")
    def _in_order(self) -> "SloSearch":
        if not self.min <= self.start <= self.max:
            raise ValueError(f"start ({self.start:g}) must lie between min ({self.min:g}) and max ({self.max:g})")
        if self.over == "concurrency" and any(value != int(value) for value in (self.start, self.min, self.max)):
            raise ValueError("start, min and max of a search over concurrency must be whole numbers")
        if self.repeats != 1 or self.launches != 1:
            raise ValueError("a search is made once: its winner is confirmed with other arrivals and prompts")
        return self


AnyServingSweep = ClosedSweep | OpenSweep | RampSweep | TraceSweep | SessionsSweep | SloSearch
