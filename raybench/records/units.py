"""Units: what a node does at a time, with nothing left to default."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from raybench.records.base import Record, content_hash
from raybench.records.loads import ServingLoad, Slo

Route = Literal["chat", "completions"]
"""Route of an eval's requests: `chat` goes through the server's chat template, `completions` sends the bare text."""

LoadRoute = Literal["generate", "chat", "completions"]
"""Route of a serving load: `generate` is SGLang's own and takes token ids, the others are OpenAI's."""

LOAD_PATHS: Mapping[str, str] = {
    "generate": "/generate", "chat": "/v1/chat/completions", "completions": "/v1/completions",
}  # fmt: skip
"""Paths of these routes."""

Check = Literal["limits", "grader", "prompt", "canary", "agreement", "numerics", "decode"]
"""Preflight checks, in the order in which a node makes them: the cheap ones first."""


class OneBatchLoad(Record):
    """A whole batch in one streaming request, all prompts arriving at once (SGLang's static-batch measurement)."""

    kind: Literal["one_batch"] = "one_batch"
    """Tag of the union of load shapes."""
    batch_size: int = Field(ge=1)
    """Number of prompts in the one request."""
    input_tokens: int = Field(ge=1)
    """Tokens of every prompt, exact."""
    output_tokens: int = Field(ge=2)
    """Tokens that every reply must have, exact (`ignore_eos`); at least 2, so that a steady state exists."""


class WarmUp(Record):
    """Warm-up at the measured shape: passes are made until two successive ones differ by less than the tolerance."""

    max_passes: int = Field(default=5, ge=0)
    """Passes at most; 0 measures cold and earns a finding."""
    tolerance_fraction: float = Field(default=0.05, gt=0)
    """Two successive passes whose latencies differ by less than this share are flat."""


class PerfUnit(Record):
    """One load point, one repeat, on one launch of an engine. Owns its hosts alone while it runs."""

    kind: Literal["perf"] = "perf"
    """Tag of the union of units."""
    key: str
    """Content hash of what is measured; see `raybench.plan.keys`."""
    target: str
    """Name of the target in the configuration."""
    sweep: str
    """Name of the sweep in the configuration."""
    load: OneBatchLoad
    """The load point."""
    repeat: int = Field(ge=0)
    """Number of the repeat within the launch, from 0; where every node does all, counted on from node to node."""
    launch: int = Field(ge=0)
    """Number of the engine launch that is asked for, from 0."""
    order: int = Field(ge=0)
    """Place of this point in the drawn order of its (sweep, repeat, launch)."""
    prompt_seed: int
    """Seed of the prompts' tokens; distinct for every point, repeat and launch, and the same on every node."""
    place: int | None = Field(default=None, ge=0)
    """Which of the target's nodes is to do it, from 0; None = any. A node that replaces a lost one takes its place."""
    warm_up: WarmUp
    """Warm-up before the measured pass."""
    timeout_s: float = Field(gt=0)
    """Wall-clock limit of the unit, warm-up included, in seconds."""


class Probe(Record):
    """What a probe is to the search that asked for it."""

    number: int = Field(ge=0)
    """Which probe of its search, from 0."""
    role: Literal["bracket", "bisect", "confirm"]
    """bracket = looks for values on both sides, bisect = halves what lies between them, confirm = tries the winner
    again with other arrivals and prompts."""
    again: bool = False
    """True: in place of a probe that said nothing, with other arrivals and prompts."""


class LoadUnit(Record):
    """One serving load, one repeat, on one launch of an engine. Owns its hosts alone while it runs."""

    kind: Literal["load"] = "load"
    """Tag of the union of units."""
    key: str
    """Content hash of what is measured."""
    target: str
    """Name of the target in the configuration."""
    sweep: str
    """Name of the sweep or search in the configuration."""
    load: ServingLoad
    """The load point."""
    repeat: int = Field(ge=0)
    """Number of the repeat within the launch, from 0."""
    launch: int = Field(ge=0)
    """Number of the engine launch that is asked for, from 0."""
    order: int = Field(ge=0)
    """Place of this point in the drawn order of its (sweep, repeat, launch)."""
    arrival_seed: int
    """Seed of arrivals and lengths; the same on all targets and for all points that are compared."""
    prompt_seed: int
    """Seed of the prompts' tokens; distinct for every point, repeat and launch."""
    route: LoadRoute = "generate"
    """Route that the requests take."""
    slo: Slo | None = None
    """What goodput is measured by; not part of the key."""
    probe: Probe | None = None
    """What it is to a search; None = it is a point of a sweep."""
    timeout_s: float = Field(gt=0)
    """Wall-clock limit of the unit in seconds."""


class Sampling(Record):
    """Every sampling field of a chat request; all are always sent, so no server default can leak in."""

    temperature: float = Field(ge=0)
    """Softmax temperature; 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling share."""
    top_k: int = Field(default=-1)
    """Number of candidates; -1 = all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Lowest probability relative to the best candidate."""
    presence_penalty: float = 0.0
    """OpenAI presence penalty."""
    frequency_penalty: float = 0.0
    """OpenAI frequency penalty."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Multiplicative penalty; 1 = off."""
    max_tokens: int = Field(ge=1)
    """Limit of the reply in tokens. Never left to a default: a silent cap is how scores are lost."""


class Message(Record):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """The text."""


def prompt_hash(messages: Sequence[Message]) -> str:
    """SHA-256 (64 hexadecimal digits) of messages as rendered: the proof of what was sent, and the answer key's key."""
    return content_hash([message.model_dump() for message in messages], 64)


def bare_text(messages: Sequence[Message]) -> str:
    """Messages as the completions route gets them: their text alone, without any chat format."""
    return "\n\n".join(message.content for message in messages)


class SampleSpec(Record):
    """One question asked once: (question, repeat). Rendered here, so that nodes need no data set and no hub token."""

    key: str
    """Content hash of prompt, sampling, seed and repeat; the key of the sample's own ledger record."""
    question: str
    """Stable id of the question."""
    repeat: int = Field(ge=0)
    """Number of the repeat, from 0."""
    messages: tuple[Message, ...]
    """Rendered messages, as sent."""
    gold: str
    """The right answer in the eval's own form (an integer as text, a letter)."""
    seed: int
    """Request seed, from a hash of (eval, question, repeat, run seed)."""
    letter_order: tuple[int, ...] | None = None
    """Four-choice evals: place in the source of each shown option; None for others."""


class EvalUnit(Record):
    """A block of samples of one eval, a matter of transport: losing it re-queues only its missing samples."""

    kind: Literal["eval"] = "eval"
    """Tag of the union of units."""
    key: str
    """Content hash over the samples' keys."""
    target: str
    """Name of the target in the configuration."""
    eval: str
    """Name of the eval in the configuration."""
    block: int = Field(ge=0)
    """Number of the block within the eval, from 0."""
    stage: int = Field(default=0, ge=0)
    """Stage of an adaptive eval that the samples belong to, from 0; a block never straddles two."""
    samples: tuple[SampleSpec, ...]
    """The samples, in the order in which they are sent."""
    sampling: Sampling
    """Sampling fields of every request of the block."""
    concurrency: int = Field(ge=1)
    """Requests in flight at a time."""
    timeout_s: float = Field(gt=0)
    """Limit of one request in seconds."""
    route: Route = "chat"
    """Route that the requests take."""


class ReplyBudget(Record):
    """What one eval grants its replies, for the check of limits."""

    eval: str
    """Name of the eval in the configuration."""
    max_tokens: int = Field(ge=1)
    """Limit of a reply that the configuration sets."""
    needed_tokens: int | None = None
    """Smallest limit that leaves room for the replies of current models; None where nobody knows (stand-in rows)."""


class CheckUnit(Record):
    """One preflight check of one node of a target, made on the very engine that is about to answer scored samples."""

    kind: Literal["check"] = "check"
    """Tag of the union of units."""
    key: str
    """Content hash of what is checked and of the place; never of a node."""
    target: str
    """Name of the target in the configuration."""
    check: Check
    """Which check."""
    place: int = Field(ge=0)
    """Which of the target's nodes, counted from 0: a node that replaces a lost one has its place."""
    route: Route = "chat"
    """Route of the evals that follow."""
    samples: tuple[SampleSpec, ...] = ()
    """Questions that the check asks: canaries, or the longest question of every eval."""
    graders: tuple[str, ...] = ()
    """Canaries: the eval that reads the reply, for each sample."""
    budgets: tuple[ReplyBudget, ...] = ()
    """Limits: the evals, one for each sample."""
    batch_size: int = Field(default=0, ge=0)
    """Decode: prompts that are decoded together."""
    stops: bool = True
    """False: the target's evals go on whatever the check finds."""
    timeout_s: float = Field(gt=0)
    """Limit of one request in seconds."""


Timed = PerfUnit | LoadUnit
"""Units that measure time: they own their hosts alone and are bound to a launch."""
AnyUnit = PerfUnit | LoadUnit | EvalUnit | CheckUnit
Unit = Annotated[AnyUnit, Field(discriminator="kind")]


class RuleSpec(Record):
    """An adaptive part of the plan: a pure function (rule, what came back) -> stop or go on, named by `kind`."""

    kind: str
    """Name in `raybench.plan.rules.RULES`."""
    target: str
    """Target whose units it decides on."""
    eval: str | None = None
    """Eval whose units it decides on."""
    parameters: dict[str, float] = {}
    """Its numbers."""
    probe: LoadUnit | None = None
    """Searches: the first probe, of which all others are made; None for other rules."""


class Plan(Record):
    """Everything that will be done, with nothing left to default."""

    units: tuple[Unit, ...]
    """All units that are known before the run."""
    rules: tuple[RuleSpec, ...] = ()
    """Adaptive parts."""
