"""What the node writes for the client process, and what it reads back.

`python -m raybench.client JOB.json OUT.jsonl`: the job is one JSON document, the results are JSON lines, flushed one by
one, so that a result that was made survives the death of the client. The last line is always a `ClientDone`; without it
the client died.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from raybench.records import OneBatchLoad, Pass, Record, RequestRow, Route, SampleRecord, SampleSpec, Sampling, WarmUp


class BatchJob(Record):
    """Warm up and measure one static batch."""

    kind: Literal["one_batch"] = "one_batch"
    """Tag of the union."""
    url: str
    """Base URL of the engine."""
    api_key: str | None = None
    """Bearer token; the job file is readable by its owner only."""
    load: OneBatchLoad
    """The load point."""
    prompt_seed: int
    """Seed of the prompts."""
    vocab_tokens: int
    """Token ids are drawn from [num_reserved, vocab_tokens)."""
    warm_up: WarmUp
    """Warm-up rule."""
    timeout_s: float
    """Limit of the whole job, seconds."""
    time_scale: float = 1.0
    """Simulated seconds per real second."""


class ChatJob(Record):
    """Ask a block of samples through the chat route."""

    kind: Literal["chat"] = "chat"
    """Tag of the union."""
    url: str
    """Base URL of the engine (without /v1)."""
    api_key: str | None = None
    """Bearer token."""
    model: str
    """Served model name."""
    unit: str
    """Key of the unit."""
    target: str
    """Target that is asked."""
    eval: str
    """Name of the eval."""
    samples: tuple[SampleSpec, ...]
    """What to ask, in this order."""
    sampling: Sampling
    """Sampling fields, all sent."""
    concurrency: int
    """Requests in flight."""
    timeout_s: float
    """Limit of one request, seconds."""
    max_transport_retries: int = 4
    """Retries of one sample after transport faults (connection, 429, 5xx); content is never retried."""
    time_scale: float = 1.0
    """Simulated seconds per real second."""
    route: Route = "chat"
    """Route that the requests take."""


Job = Annotated[BatchJob | ChatJob, Field(discriminator="kind")]
JOB: TypeAdapter[BatchJob | ChatJob] = TypeAdapter(Job)


class WarmUpLine(Record):
    """One warm-up pass has ended."""

    kind: Literal["warm_up"] = "warm_up"
    """Tag of the union."""
    result: Pass
    """The pass."""


class MeasuredLine(Record):
    """The measured pass has ended."""

    kind: Literal["measured"] = "measured"
    """Tag of the union."""
    result: Pass
    """The pass."""
    rows: tuple[RequestRow, ...]
    """One row a prompt."""
    flat: bool
    """The last two warm-up passes agreed."""
    started_unix_s: float
    """Wall clock at the start of the measured pass."""
    ended_unix_s: float
    """Wall clock at its end."""
    cpu_fraction: float
    """CPU time of the client over wall time of the pass."""
    cpus: tuple[int, ...]
    """CPUs that the client was allowed to run on."""


class SampleLine(Record):
    """One sample has ended."""

    kind: Literal["sample"] = "sample"
    """Tag of the union."""
    result: SampleRecord
    """The sample."""


class ClientDone(Record):
    """Last line: the job is whole, or why it is not."""

    kind: Literal["done"] = "done"
    """Tag of the union."""
    error: str | None = None
    """None = whole; else what stopped the client, redacted."""


Line = Annotated[WarmUpLine | MeasuredLine | SampleLine | ClientDone, Field(discriminator="kind")]
LINE: TypeAdapter[WarmUpLine | MeasuredLine | SampleLine | ClientDone] = TypeAdapter(Line)
