"""What the node writes for the client process, and what it reads back.

`python -m raybench.client JOB.json OUT.jsonl`: the job is one JSON document, the results are JSON lines, flushed one by
one, so that a result that was made survives the death of the client. The last line is always a `ClientDone`; without it
the client died.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from raybench.records import (
    LoadRoute,
    OneBatchLoad,
    Pass,
    Record,
    RequestRow,
    Route,
    SampleRecord,
    SampleSpec,
    Sampling,
    WarmUp,
)
from raybench.records.calibration import Calibration
from raybench.records.loads import ServingLoad, Slo
from raybench.records.serving import ClientSide, LoadFigures


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
    """Limit of one request, real seconds; one that runs into it is not sent again."""
    max_transport_retries: int = 4
    """Retries of one sample after transport faults (connection, 408, 429, 5xx), as long as `timeout_s` is not spent in
    all; content is never retried."""
    time_scale: float = 1.0
    """Simulated seconds per real second."""
    route: Route = "chat"
    """Route that the requests take."""


class LoadJob(Record):
    """Run one serving load."""

    kind: Literal["load"] = "load"
    """Tag of the union."""
    url: str
    """Base URL of the engine (without /v1)."""
    api_key: str | None = None
    """Bearer token."""
    model: str
    """Served model name, for OpenAI's routes."""
    load: ServingLoad
    """The load."""
    arrival_seed: int
    """Seed of arrivals and lengths."""
    prompt_seed: int
    """Seed of the prompts' tokens."""
    route: LoadRoute = "generate"
    """Route that the requests take."""
    slo: Slo | None = None
    """What goodput is measured by."""
    vocab_tokens: int
    """Token ids are drawn from [num_reserved, vocab_tokens)."""
    num_processes: int = 1
    """Client processes."""
    timeout_s: float
    """Limit of one request, real seconds."""
    time_scale: float = 1.0
    """Simulated seconds per real second."""


class CalibrationJob(Record):
    """Measure the client's own error at a number of streams."""

    kind: Literal["calibration"] = "calibration"
    """Tag of the union."""
    streams: int = Field(ge=1)
    """Streams."""
    route: LoadRoute = "generate"
    """Route of the requests."""
    max_processes: int = Field(ge=1)
    """Client processes that may be tried."""


AnyJob = BatchJob | ChatJob | LoadJob | CalibrationJob
Job = Annotated[AnyJob, Field(discriminator="kind")]
JOB: TypeAdapter[AnyJob] = TypeAdapter(Job)


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


class LoadLine(Record):
    """The load has ended; its rows lie in a file beside this one."""

    kind: Literal["load"] = "load"
    """Tag of the union."""
    figures: LoadFigures
    """The figures."""
    client: ClientSide
    """The client's processes."""
    drained: bool
    """The server was idle before the load, and its prefix cache empty."""
    flush_status: int | None = None
    """HTTP status by which it refused to say so; None = it did not refuse, or gave no whole answer."""
    stopped_early: str | None = None
    """Why sending ended before the schedule did."""
    started_unix_s: float
    """Wall clock at the start of the schedule."""
    duration_s: float
    """From then until the last answer had ended, real seconds."""
    error: str | None = None
    """First error of a request, redacted."""


class CalibrationLine(Record):
    """The client's own error."""

    kind: Literal["calibration"] = "calibration"
    """Tag of the union."""
    result: Calibration
    """What was found."""


class ClientDone(Record):
    """Last line: the job is whole, or why it is not."""

    kind: Literal["done"] = "done"
    """Tag of the union."""
    error: str | None = None
    """None = whole; else what stopped the client, redacted."""


AnyLine = WarmUpLine | MeasuredLine | SampleLine | LoadLine | CalibrationLine | ClientDone
Line = Annotated[AnyLine, Field(discriminator="kind")]
LINE: TypeAdapter[AnyLine] = TypeAdapter(Line)
