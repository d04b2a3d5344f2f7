"""Everything that crosses a process, a machine or the disk: units, facts, measurements, samples, findings.

Invariant: a record says what was observed and nothing that could be derived later. Outcomes and scores are derived by
`raybench.evals` and `raybench.stats` when a ledger is read, so a better grader re-scores an old run. None always means
"not measured"; a NaN is never written.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

LEDGER_VERSION = 1


class Record(BaseModel):
    """Base of all records: frozen, closed, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def content_hash(content: JsonValue, num_hex: int = 16) -> str:
    """SHA-256 of the canonical JSON of `content`, cut to `num_hex` hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:num_hex]


# ---------------------------------------------------------------------------------------------------------------- units


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
    """Number of the repeat within the launch, from 0."""
    launch: int = Field(ge=0)
    """Number of the engine launch that is asked for, from 0."""
    order: int = Field(ge=0)
    """Place of this point in the drawn order of its (sweep, repeat, launch)."""
    prompt_seed: int
    """Seed of the prompts' tokens; distinct for every point, repeat and launch."""
    warm_up: WarmUp
    """Warm-up before the measured pass."""
    timeout_s: float = Field(gt=0)
    """Wall-clock limit of the unit, warm-up included, in seconds."""


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
    samples: tuple[SampleSpec, ...]
    """The samples, in the order in which they are sent."""
    sampling: Sampling
    """Sampling fields of every request of the block."""
    concurrency: int = Field(ge=1)
    """Requests in flight at a time."""
    timeout_s: float = Field(gt=0)
    """Limit of one request in seconds."""


Unit = Annotated[PerfUnit | EvalUnit, Field(discriminator="kind")]


class RuleSpec(Record):
    """An adaptive part of the plan: a pure function (rule, ledger) -> next units or stop, named by `kind`."""

    kind: str
    """Name in `raybench.plan.rules.RULES`."""
    target: str
    """Target that it adds units to."""
    parameters: dict[str, float] = {}
    """Its numbers."""


class Plan(Record):
    """Everything that will be done, with nothing left to default."""

    units: tuple[Unit, ...]
    """All units that are known before the run."""
    rules: tuple[RuleSpec, ...] = ()
    """Adaptive parts."""


# ---------------------------------------------------------------------------------------------------------------- facts


class GpuFacts(Record):
    """One GPU as NVML describes it."""

    index: int
    """NVML index."""
    name: str
    """Product name, such as `NVIDIA H200`."""
    uuid: str
    """NVML UUID."""
    memory_bytes: int
    """Total device memory."""
    power_limit_w: float | None = None
    """Enforced power limit in watts; None where NVML does not say."""


class NodeFacts(Record):
    """What a node is. Written once when it joins."""

    node: str
    """Short name of the node within the run, such as `n0`."""
    host: str
    """Boot id of the machine, or the host that a simulated engine declares."""
    ray_node_id: str | None = None
    """Ray's id of the machine's raylet; None outside Ray."""
    accelerator: str
    """Accelerator that the node was placed for: H200, B200, CPU ..."""
    gpus: tuple[GpuFacts, ...] = ()
    """GPUs that NVML shows; empty without any."""
    driver_version: str | None = None
    """NVIDIA driver; None without GPU."""
    cpu_model: str | None = None
    """CPU model name of the operating system."""
    num_cpus: int
    """Logical CPUs that this process may use."""
    memory_bytes: int
    """Memory of the machine."""
    kernel: str
    """Operating system kernel release."""
    python_version: str
    """Python of raybench on the node."""
    ray_version: str | None = None
    """Ray on the node."""
    raybench_version: str
    """raybench on the node."""
    clock_unix_s: float
    """Wall clock when the facts were taken: anchor of the node's durations, never subtracted from another's."""
    load_average_1m: float | None = None
    """Load average of the machine over one minute when the node joined."""


class StartUpPhase(Record):
    """One phase of an engine's start."""

    name: str
    """weights, kv_cache, cuda_graph, autotune, total ..."""
    duration_s: float = Field(ge=0)
    """Duration in seconds."""


class MemoryUsage(Record):
    """Memory of one rank as the engine reports it, in GiB."""

    weights_gib: float | None = None
    """Model weights."""
    kv_cache_gib: float | None = None
    """Key and value cache together."""
    cuda_graph_gib: float | None = None
    """CUDA graphs of all phases."""
    available_gib: float | None = None
    """Left after start."""
    token_capacity: int | None = None
    """Tokens that the KV cache holds."""


class EngineFacts(Record):
    """One launch of an engine on a node: what was asked for and what came up."""

    engine: Literal["sglang", "external", "simulated"]
    """Kind of engine."""
    target: str
    """Target that it was started for."""
    launch: int
    """Launch number of the plan, from 0."""
    start: str
    """Id of this physical start, such as `n0.2`; the `launch` field of every record that it made."""
    version: str | None = None
    """Engine version as the server itself says."""
    url: str
    """Base URL, credentials removed."""
    hosts: tuple[str, ...] = ()
    """Hosts (boot ids or addresses) that the engine occupies."""
    interpreter: str | None = None
    """Kind of the environment that was chosen (`node`, `python`, `managed cpu 0.5.21`); None where none is started."""
    argv: tuple[str, ...] = ()
    """Command line without interpreter path, secrets redacted."""
    env: dict[str, str] = {}
    """Environment variables that the configuration set, secrets redacted."""
    model_revision: str | None = None
    """Resolved revision, or a content hash of a local model's configuration."""
    resolved_args: dict[str, JsonValue] = {}
    """Arguments as the engine resolved them (kernels, parallel sizes, dtype ...), secrets and paths removed."""
    startup: tuple[StartUpPhase, ...] = ()
    """Phases of the start; always holds `total`."""
    memory: MemoryUsage | None = None
    """Memory of rank 0; None where the engine does not say."""
    max_total_tokens: int | None = None
    """Tokens that may be in the engine at once."""
    context_tokens: int | None = None
    """Longest prompt plus reply."""
    vocab_tokens: int | None = None
    """Token ids of the model are below this: prompts are drawn from it. None where it could not be learnt."""
    simulated: bool = False
    """True: every number that came from it is made up by a timing model."""
    time_scale: float = 1.0
    """Simulated seconds per real second; 1 for real engines."""


# --------------------------------------------------------------------------------------------------------- measurements


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
    error: str | None = None
    """First error message of the pass, redacted; None if all went well."""


class GpuSummary(Record):
    """Telemetry of one GPU over a measured pass."""

    index: int
    """NVML index."""
    mean_power_w: float | None = None
    """Mean power."""
    energy_j: float | None = None
    """Energy by the GPU's own counter."""
    max_temperature_c: float | None = None
    """Highest temperature."""
    min_sm_clock_mhz: float | None = None
    """Lowest SM clock."""
    max_sm_clock_mhz: float | None = None
    """Highest SM clock."""
    throttle_reasons: tuple[str, ...] = ()
    """Clock-event reasons seen, power cap and idle included by name."""


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
    error: str | None = None
    """Error text, redacted; None if all went well."""


Outcome = Literal["correct", "incorrect", "unparsed", "truncated", "errored"]
"""What a sample comes to. Derived when a ledger is read and never stored; the five never merge."""


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


Measurement = Annotated[PerfMeasurement | EvalMeasurement, Field(discriminator="kind")]


Cause = Literal["node_lost", "engine_died", "engine_start", "timeout", "client", "bug", "stopped"]


class Failure(Record):
    """Why an attempt failed or a unit was given up: body of `unit_failed`."""

    cause: Cause
    """Budget that the failure is charged to; `stopped` (by the user) is charged to none."""
    message: str
    """What happened, secrets redacted, with the tail of the engine's log where it helps."""
    given_up: bool = False
    """True: no attempt follows in this run; `--resume` tries again."""


# ------------------------------------------------------------------------------------------------------------- findings

Severity = Literal["info", "warn", "red"]


class Finding(Record):
    """One named check with what it saw. Only red makes a result INVALID."""

    code: str
    """Stable name of the check, such as `truncated`."""
    severity: Severity
    """info, warn or red."""
    scope: Literal["run", "target", "unit"]
    """How far it reaches."""
    target: str | None = None
    """Target that it is about; None for the whole run."""
    key: str | None = None
    """Unit that it is about."""
    rule: str
    """The rule in words, with its threshold."""
    evidence: dict[str, float]
    """Numbers that decided."""
    advice: str
    """What to do."""


# --------------------------------------------------------------------------------------------------------------- ledger

Kind = Literal[
    "run", "plan", "node", "engine", "unit_started", "unit_done", "unit_failed", "sample", "decision", "calibration"
]


class LedgerRecord(Record):
    """One line of `ledger.jsonl`."""

    v: int = LEDGER_VERSION
    """Version of the format."""
    seq: int = Field(ge=0)
    """Place in the ledger, from 0, without a hole."""
    t: float
    """Wall clock of the driver when the line was written, seconds since 1970."""
    kind: Kind
    """What the body is."""
    key: str | None = None
    """Unit or sample key; None for records about the run, a node or an engine."""
    attempt: int | None = None
    """Attempt of the unit, from 1."""
    node: str | None = None
    """Short name of the node."""
    launch: str | None = None
    """Id of the physical engine start."""
    body: dict[str, JsonValue]
    """The record itself."""
