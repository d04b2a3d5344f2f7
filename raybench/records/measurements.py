"""Measurements: what a unit brings back, whole or not."""

from typing import Annotated, Literal

from pydantic import Field

from raybench.records.base import Record
from raybench.records.serving import LoadMeasurement
from raybench.records.telemetry import GpuSummary
from raybench.records.units import Check, Route


class RequestRow(Record):
    """One prompt of a measured pass. Times in seconds since the request was sent (simulated seconds where scaled)."""

    index: int
    """Place in the batch."""
    status: Literal["ok", "http_error", "timeout", "cut"]
    """How the request ended."""
    prompt_tokens: int
    """Prompt length as the server counted it; 0 if it never said."""
    output_tokens: int
    """Reply length as the server counted it."""
    cached_tokens: int
    """Prompt tokens that came from the prefix cache."""
    num_retractions: int
    """Times that the scheduler took the request back for lack of KV cache."""
    ttft_s: float | None
    """Until the first token was read; None if none came."""
    first_chunk_tokens: int
    """Tokens that the first chunk with tokens carried."""
    end_s: float | None
    """Until the last token was read."""
    longest_gap_s: float | None
    """Longest time between two reads of tokens of this request."""
    num_chunks: int
    """Reads that brought tokens."""
    finish_reason: str | None
    """`length`, `stop`, `abort` ...; None if the server never said."""


class Pass(Record):
    """One pass of a load point over the engine: the primitives from which every figure is computed."""

    latency_s: float
    """From sending the request to the end of the stream."""
    first_ttft_s: float | None
    """Time to the first token of the quickest request."""
    median_ttft_s: float | None
    """Median time to first token over the batch."""
    last_ttft_s: float | None
    """Time to the first token of the slowest request: the end of prefill."""
    last_token_s: float | None
    """Until the last token of any request was read."""
    tokens_at_last_ttft: int
    """Tokens of all requests that had been read when the slowest request's first token was."""
    first_end_s: float | None
    """Until the first request had its last token: the end of the full batch."""
    tokens_at_first_end: int
    """Tokens of all requests that had been read by then."""
    prompt_tokens: int
    """Sum of the prompt tokens that the server counted."""
    output_tokens: int
    """Sum of the reply tokens that the server counted."""
    min_output_tokens: int
    """Shortest reply."""
    max_output_tokens: int
    """Longest reply."""
    cached_tokens: int
    """Sum of prompt tokens from the prefix cache."""
    num_retractions: int
    """Sum of retractions."""
    num_ok: int
    """Requests that ended well."""
    num_requests: int
    """Requests that were sent."""
    longest_gap_s: float | None
    """Longest silence of any request between two of its reads."""
    finish_reasons: dict[str, int]
    """Number of requests by finish reason; `none` where the server never said."""
    first_chunk_tokens: int | None = None
    """Sum of the tokens of the requests' first chunks: one each where every token is told of; None = not kept."""
    error: str | None = None
    """First error message of the pass, redacted; None if all went well."""


class PerfMeasurement(Record):
    """What a perf unit brings back: body of its `unit_done`."""

    kind: Literal["perf"] = "perf"
    """Tag of the union of measurements."""
    measured: Pass
    """The measured pass."""
    warm_up: tuple[Pass, ...]
    """The warm-up passes before it, in order."""
    flat: bool
    """True if the last two warm-up passes agreed within the tolerance."""
    started_unix_s: float
    """Wall clock of the node at the start of the measured pass."""
    duration_s: float
    """Wall time of the whole unit, warm-up included, real seconds."""
    engines_on_host: int = 1
    """Engines of any target that were up on the host meanwhile."""
    client_cpu_fraction: float | None = None
    """CPU time of the client over wall time of the measured pass; near 1 means that the client is the limit."""
    client_threads: int = 1
    """Threads of the client process that read the stream."""
    client_cpus: tuple[int, ...] = ()
    """CPUs that the client process was allowed to run on."""
    load_average_1m: float | None = None
    """Load average of the machine at the end of the pass."""
    gpus: tuple[GpuSummary, ...] = ()
    """Telemetry; empty without GPU."""
    rows_sha256: str | None = None
    """SHA-256 of `requests/KEY.parquet`, set by the driver when it has written the file."""
    simulated: bool = False
    """True: the times are simulated seconds."""


class SampleRecord(Record):
    """One sample as it came back. Grading happens when the ledger is read."""

    key: str
    """Key of the sample."""
    unit: str
    """Key of the unit that carried it."""
    target: str
    """Target that answered."""
    eval: str
    """Name of the eval."""
    question: str
    """Stable id of the question."""
    repeat: int
    """Number of the repeat, from 0."""
    status: Literal["ok", "http_error", "timeout", "cut"]
    """How the request ended; everything but ok counts as errored, never as wrong."""
    reply: str | None
    """Text of the reply; None if none came."""
    finish_reason: str | None
    """`stop`, `length` ...; None if the server never said."""
    prompt_tokens: int | None
    """Prompt length by the server's usage."""
    output_tokens: int | None
    """Reply length by the server's usage."""
    cached_tokens: int | None = None
    """Prompt tokens from the prefix cache, where the server says."""
    prompt_sha256: str
    """Hash of the rendered messages as sent: the prompt's proof on our side."""
    gold: str
    """The right answer."""
    letter_order: tuple[int, ...] | None = None
    """Permutation of the options that was shown."""
    seed: int
    """Request seed that was sent."""
    sent_unix_s: float
    """Wall clock of the node when the request was sent."""
    duration_s: float
    """From sending to the end of the reply, in seconds (simulated where scaled)."""
    num_transport_retries: int = 0
    """Transport faults that were retried; content is never retried."""
    resent_after_s: float | None = None
    """Longest of the tries that failed and were sent again, real seconds; None = none was, or not kept."""
    matched_stop: int | str | None = None
    """What ended the reply, where the server says: a token's id, or a text that was taken for a stop word."""
    reasoning_chars: int | None = None
    """Length of the text that the server's reasoning parser took out of the reply; None where it took none."""
    error: str | None = None
    """Error text, redacted; None if all went well."""


Outcome = Literal["correct", "incorrect", "unparsed", "truncated", "errored"]
"""What a sample comes to. Derived when a ledger is read and never stored; the five never merge."""


Sign = Literal["truncated", "unparsed", "errored", "empty", "looping", "run_on"]
"""Something about a sample that a rate counts; a sample may bear several. Derived, like the outcome."""


class EvalMeasurement(Record):
    """What an eval unit brings back beside its samples: body of its `unit_done`."""

    kind: Literal["eval"] = "eval"
    """Tag of the union of measurements."""
    num_samples: int
    """Samples that were sent in this attempt."""
    duration_s: float
    """Wall time of the unit in real seconds."""
    engines_on_host: int = 1
    """Engines of any target that were up on the host meanwhile."""
    simulated: bool = False
    """True: replies are made up."""


class TeacherForced(Record):
    """Log-probabilities of one fixed text as a server reads it, token by token; servers of the same weights agree."""

    tokens_sha256: str
    """First 16 digits of the SHA-256 over the token ids: only equal ones can be compared."""
    logprobs: tuple[float, ...]
    """Log-probability of every token but the first, given those before it; rounded to 1e-5."""
    top_ids: tuple[int, ...] = ()
    """Most probable token at each of these places; empty where the server does not say."""


class CheckMeasurement(Record):
    """What a preflight check saw: body of its `unit_done`."""

    kind: Literal["check"] = "check"
    """Tag of the union of measurements."""
    check: Check
    """Which check."""
    target: str
    """Target that was checked."""
    place: int
    """Which of its nodes, from 0."""
    route: Route = "chat"
    """Route that was checked."""
    result: Literal["ok", "warn", "stop"]
    """ok: nothing to say. warn: to be known. stop: scores of this server would say nothing about the model."""
    words: str
    """What was seen, in a sentence, without text of any question of an eval."""
    evidence: dict[str, float] = {}
    """Numbers that decided."""
    num_requests: int = 0
    """Requests that made the engine generate."""
    duration_s: float
    """Wall time in real seconds."""
    samples: tuple[SampleRecord, ...] = ()
    """Canaries as they came back."""
    prompt_tokens: tuple[int | None, ...] = ()
    """Length of every prompt as the server counted it, in the order of the unit's questions."""
    replies: tuple[tuple[str, ...], ...] = ()
    """Agreement: the first tokens of every greedy reply (words, where the server shows no tokens)."""
    texts: tuple[TeacherForced, ...] = ()
    """Numerics: the fixed texts."""
    simulated: bool = False
    """True: a simulated engine answered."""


AnyMeasurement = PerfMeasurement | LoadMeasurement | EvalMeasurement | CheckMeasurement
Measurement = Annotated[AnyMeasurement, Field(discriminator="kind")]


Cause = Literal[
    "node_lost", "engine_died", "engine_start", "timeout", "client", "bug", "stopped", "preflight", "withdrawn"
]


class Failure(Record):
    """Why an attempt failed or a unit was given up: body of `unit_failed`."""

    cause: Cause
    """Budget that the failure is charged to; `stopped` (by the user), `preflight` (a check said stop) and `withdrawn`
    (it waited at the node and never began) have none."""
    message: str
    """What happened, secrets redacted, with the tail of the engine's log where it helps."""
    given_up: bool = False
    """True: no attempt follows in this run; `--resume` tries again."""
