"""The report as data: everything that a page, a sink or a later comparison may show, computed once.

Frozen: `report.json` is the dump of `Report`, its JSON schema is committed, and a test holds them together. A field
that is added needs a default; anything else needs a new `SCHEMA_VERSION`.
"""

from typing import Literal

from pydantic import JsonValue

from raybench.config.schema import FlagValue
from raybench.records import Check, Finding, MemoryUsage, Record, Route, Sampling, StartUpPhase
from raybench.report.fleet_model import FleetTimes
from raybench.report.serving_model import LoadRatioRow, LoadRow, SearchRow
from raybench.report.spread import Spread
from raybench.stats.accuracy import AccuracyScore
from raybench.stats.compare import AccuracyComparison, Ratio
from raybench.validity.acceptance import Acceptance
from raybench.validity.counterfactual import Counterfactual
from raybench.validity.diagnosis import Diagnosis
from raybench.validity.timed import TimedConfiguration
from raybench.validity.verdict import Verdict

SCHEMA_VERSION = 1


class RepeatRow(Record):
    """One measured pass, as it stands behind a row of the table."""

    key: str
    """Key of the unit; `requests/KEY.parquet` holds its requests."""
    repeat: int
    """Number of the repeat, from 0."""
    launch: int
    """Number of the launch in the plan, from 0."""
    node: str
    """Short name of the node."""
    start: str
    """Id of the physical engine start."""
    attempt: int
    """Attempt that counts, from 1."""
    latency_s: float
    """From sending the request to the end of the stream."""
    last_ttft_s: float | None
    """Time to the first token of the slowest request."""
    output_tok_per_s: float | None
    """Output throughput by SGLang's formula."""
    itl_ms: float | None
    """Inter-token latency by SGLang's formula."""
    num_warm_up: int
    """Warm-up passes before it."""
    flat: bool
    """True if the last two of them agreed."""


class PerfRow(Record):
    """One load point of one target: a row of the performance table. Formulas are SGLang's unless they say steady."""

    target: str
    """Name of the target."""
    sweep: str
    """Name of the sweep."""
    batch_size: int
    """Prompts that are sent at once."""
    input_tokens: int
    """Tokens of every prompt."""
    output_tokens: int
    """Tokens of every reply."""
    num_planned: int
    """Passes that the plan holds, repeats times launches."""
    latency_s: Spread | None
    """From sending the request to the end of the stream."""
    first_ttft_s: Spread | None
    """Time to the first token of the quickest request."""
    median_ttft_s: Spread | None
    """Median over the batch of the time to first token."""
    last_ttft_s: Spread | None
    """Time to the first token of the slowest request: the end of prefill."""
    input_tok_per_s: Spread | None
    """Prompt tokens over `last_ttft_s`."""
    output_tok_per_s: Spread | None
    """Reply tokens over the time after `last_ttft_s`."""
    overall_tok_per_s: Spread | None
    """Prompt and reply tokens over `latency_s`."""
    itl_ms: Spread | None
    """Batch size over output throughput, in milliseconds."""
    steady_output_tok_per_s: Spread | None
    """Reply tokens per second while the whole batch decodes, first tokens left out."""
    steady_itl_ms: Spread | None
    """Milliseconds per token while the whole batch decodes."""
    output_tok_per_s_per_gpu: float | None
    """Median output throughput over the GPUs of one node; None without GPUs."""
    input_price_per_million_tokens: float | None
    """Price of a million prompt tokens at full prefill, in the currency of the GPU price; None without a price."""
    output_price_per_million_tokens: float | None
    """Price of a million reply tokens during decode; None without a price."""
    mean_power_w: float | None
    """Mean power of all GPUs of the node together, median over repeats; None where not measured."""
    repeats: tuple[RepeatRow, ...]
    """The passes, by launch and repeat."""
    findings: tuple[str, ...] = ()
    """Codes of the findings about this point, red ones first: a row is never shown without them."""
    red: bool = False
    """True: one of them is red, so that the point is compared with nothing."""


class FailureRow(Record):
    """An attempt that did not end well."""

    what: str
    """Unit in words."""
    attempt: int
    """Its number, from 1; 0 = none was made."""
    node: str | None
    """Short name of the node."""
    cause: str
    """Budget that it was charged to."""
    message: str
    """First line of what happened."""
    redone: bool
    """True if a later attempt brought the result."""


class TargetRow(Record):
    """One arm of the comparison: what it was to be, what it was, and how far it came."""

    name: str
    """Name in tables."""
    accelerator: str
    """Accelerator type that was asked for."""
    num_nodes: int
    """Machines that were asked for."""
    gpus_per_node: int
    """GPUs of one machine."""
    price_per_gpu_hour: float | None
    """Price of one GPU for one hour."""
    engine: str
    """Kind of engine."""
    simulated: bool
    """True: every number of it is made up by a timing model."""
    time_scale: float
    """Simulated seconds per real second; 1 for real engines."""
    engine_versions: tuple[str, ...]
    """Versions as the servers say; more than one is a red finding."""
    model_revisions: tuple[str, ...]
    """Resolved revisions or content hashes of the model."""
    interpreters: tuple[str, ...]
    """Kinds of the engines' environments."""
    nodes_used: tuple[str, ...]
    """Short names of the nodes that results came from."""
    num_hosts: int
    """Machines that results came from, by boot id."""
    num_starts: int
    """Engine starts that perf results came from."""
    gpus: tuple[str, ...]
    """Product names of the GPUs, with their number."""
    drivers: tuple[str, ...]
    """NVIDIA driver versions."""
    cpus: tuple[str, ...]
    """CPU models, with logical CPUs."""
    args: dict[str, FlagValue]
    """Flags as configured."""
    env: dict[str, str]
    """Environment variables as configured and recorded, secrets redacted."""
    resolved_args: dict[str, JsonValue]
    """Those resolved arguments that change speed or numerics."""
    memory: MemoryUsage | None
    """Memory of rank 0 on the first start."""
    token_capacity: int | None
    """Tokens that may be in the engine at once."""
    context_tokens: int | None
    """Longest prompt plus reply."""
    num_units: int
    """Planned units."""
    num_units_done: int
    """Units with a result."""
    num_samples: int
    """Planned eval samples."""
    num_samples_done: int
    """Eval samples with a record."""
    failures: tuple[FailureRow, ...]
    """Every attempt that did not end well, in order."""


class RatioRow(Record):
    """One load point on two targets."""

    batch_size: int
    """Prompts that are sent at once."""
    input_tokens: int
    """Tokens of every prompt."""
    output_tokens: int
    """Tokens of every reply."""
    latency: Ratio | None
    """Ratio of latencies; below 1 is better."""
    last_ttft: Ratio | None
    """Ratio of the times to the last first token; below 1 is better."""
    input_throughput: Ratio | None
    """Ratio of input throughputs; above 1 is better."""
    output_throughput: Ratio | None
    """Ratio of output throughputs; above 1 is better."""
    itl: Ratio | None
    """Ratio of inter-token latencies; below 1 is better."""
    output_price: Ratio | None
    """Ratio of prices per reply token; below 1 is better; None without prices."""
    findings: tuple[str, ...] = ()
    """Codes of the findings about either side's point. Where one of them is red there are no ratios."""


class EvalDifference(Record):
    """One eval on two targets, paired by question."""

    eval: str
    """Name of the eval."""
    accuracy: AccuracyComparison
    """The target minus the baseline."""
    p_adjusted: float | None = None
    """p of the permutation test after Holm's correction over all differences in accuracy that the report states; below
    .05 they are distinguishable. None in reports of older versions."""
    num_claims: int = 1
    """Differences that the correction is over."""


class EvalLeftOut(Record):
    """One eval on two targets that is compared with nothing."""

    eval: str
    """Name of the eval."""
    findings: tuple[str, ...]
    """Codes of the red findings about either side."""
    num_missing: int = 0
    """Planned samples of both sides without a record."""


class ArgRow(Record):
    """A resolved argument that differs between the targets."""

    name: str
    """Name of the argument."""
    values: dict[str, JsonValue]
    """Value by target; null where the engine does not say."""
    asked: bool
    """True: the configuration sets it, so it is what is compared. False: the engines chose it."""


class Comparison(Record):
    """A target beside another one, or beside published rows."""

    kind: Literal["targets", "reference"]
    """targets = both measured in this run; reference = the baseline's rows are published ones."""
    baseline: str
    """Target, or label of the published rows, that ratios are taken over."""
    target: str
    """The other target."""
    sweep: str | None
    """Name of the sweep; None where only evals are compared."""
    caveat: str
    """What the comparison rests on, in words."""
    rows: tuple[RatioRow, ...]
    """Ratios by batch size."""
    reference_rows: tuple["ReferenceRow", ...] = ()
    """The published rows themselves; empty for targets."""
    evals: tuple[EvalDifference, ...] = ()
    """Differences in accuracy, over the questions that both answered."""
    evals_left_out: tuple[EvalLeftOut, ...] = ()
    """Evals that a red finding is about on either side, or of which either side misses samples."""
    arguments: tuple[ArgRow, ...] = ()
    """Resolved arguments that differ."""


class ReferenceRow(Record):
    """A published row, copied."""

    batch_size: int
    """Prompts that are sent at once."""
    input_tokens: int
    """Tokens of every prompt."""
    latency_s: float
    """Latency."""
    input_tok_per_s: float
    """Input throughput."""
    output_tok_per_s: float
    """Output throughput."""
    itl_ms: float
    """Inter-token latency."""


class ReferenceInUse(Record):
    """Where a measured reference comes from, and whether it could be used."""

    target: str
    """Target that it was measured on."""
    model: str
    """Its model."""
    accelerator: str
    """Its accelerator."""
    engine: str
    """Engine and version."""
    repeats: int
    """Its repeats."""
    score: float
    """Its score."""
    standard_error: float
    """Standard error of its score on this exam."""
    date: str
    """Day of its run."""
    run_id: str
    """Run that measured it."""
    differs: tuple[str, ...] = ()
    """What makes it another measurement; nothing is held against it then."""
    unsaid: tuple[str, ...] = ()
    """What its file does not say, so that it may differ unseen."""


class EvalRow(Record):
    """One eval on one target."""

    target: str
    """Name of the target."""
    eval: str
    """Name of the eval in the configuration."""
    synthetic: bool
    """True: the questions are stand-ins made by code in place of the eval's own."""
    accuracy: AccuracyScore
    """Outcomes, score, both intervals, both bounds and the gate."""
    lenient_score: float | None = None
    """Score if answers in another form than the requested one counted; None when nothing was answered. It never
    counts: a gap tells of a fault of the format."""
    preset: str | None = None
    """Name of the model maker's settings that lie under `sampling`; None = none."""
    mean_output_tokens: float | None
    """Mean length of the replies by the servers' count."""
    max_output_tokens: int | None
    """Longest reply by the servers' count."""
    mean_duration_s: float | None
    """Mean time of a request that was answered (simulated seconds where scaled)."""
    sampling: Sampling
    """Sampling fields that were sent."""
    findings: tuple[str, ...] = ()
    """Codes of the red findings and warnings about this eval on this target."""
    invalid_by: tuple[str, ...] = ()
    """Codes of the red findings that concern it: there is no verdict then."""
    timed: TimedConfiguration | None = None
    """Whether the configuration that answered is the one that was timed; None where nothing answered."""
    reference: ReferenceInUse | None = None
    """The measured reference of the configuration; None without one."""


class StartUpRow(Record):
    """One start of an engine."""

    target: str
    """Name of the target."""
    node: str
    """Short name of the node."""
    start: str
    """Id of the physical start."""
    launch: int
    """Number of the launch in the plan, from 0."""
    version: str | None
    """Engine version."""
    phases: tuple[StartUpPhase, ...]
    """Phases with their durations."""


class PreflightRow(Record):
    """One check of one node before its first scored sample."""

    target: str
    """Name of the target."""
    node: str
    """Short name of the node."""
    start: str
    """Id of the physical engine start that was checked."""
    check: Check
    """Which check."""
    route: Route
    """Route that was checked."""
    result: Literal["ok", "warn", "stop"]
    """What it came to."""
    words: str
    """What was seen."""
    evidence: dict[str, float] = {}
    """Numbers that decided."""
    num_requests: int = 0
    """Requests that made the engine generate."""
    duration_s: float
    """Wall time in real seconds."""


class Session(Record):
    """One session on the run folder."""

    number: int
    """From 0; a resume adds one."""
    command: tuple[str, ...]
    """Command line, paths cut to their last part."""
    raybench_version: str
    """Version of the driver."""
    ray_version: str
    """Ray of the driver."""
    python_version: str
    """Python of the driver."""
    cluster: str
    """Which cluster it was, in words."""


class Provenance(Record):
    """Where the numbers come from and how to get them again."""

    name: str
    """Name of the study."""
    run_id: str
    """Id of the run."""
    model: str
    """Model path or hub id."""
    model_revision: str | None
    """Revision that was asked for."""
    seed: int
    """Seed of prompts, orders and request seeds."""
    config_digest: str
    """Hash of the resolved configuration."""
    plan_digest: str | None
    """Hash of units and rules; None when the run ended before it had a plan."""
    sessions: tuple[Session, ...]
    """Sessions, in order."""
    first_unix_s: float
    """Wall clock of the first record."""
    last_unix_s: float
    """Wall clock of the last record."""
    num_units: int
    """Planned units."""
    num_units_missing: int
    """Units without a result."""
    num_samples: int
    """Planned samples."""
    num_samples_missing: int
    """Samples without a record."""
    num_units_dropped: int = 0
    """Planned units that a rule of the plan decided not to run; they are not missing."""
    num_samples_dropped: int = 0
    """Planned samples that are not missing because a rule dropped their unit."""
    end: str | None
    """How the last session ended, in the driver's words; None if it never said."""


class Report(Record):
    """Everything that a run came to."""

    schema_version: int = SCHEMA_VERSION
    """Version of this shape."""
    verdict: Verdict
    """The one word."""
    findings: tuple[Finding, ...]
    """All findings: red first, then warn, then info, each in plan order."""
    targets: tuple[TargetRow, ...]
    """Targets in plan order."""
    perf: tuple[PerfRow, ...]
    """Load points: by target, sweep and batch size as configured."""
    comparisons: tuple[Comparison, ...]
    """Targets against the first one, then targets against published rows."""
    evals: tuple[EvalRow, ...]
    """Evals: by eval and target."""
    preflight: tuple[PreflightRow, ...] = ()
    """Checks before the evals: by target, node and check; empty where none were made."""
    startup: tuple[StartUpRow, ...]
    """Engine starts in order."""
    provenance: Provenance
    """Where it comes from."""
    diagnoses: tuple[Diagnosis, ...] = ()
    """A named cause for every sick eval; empty when all are well."""
    serving: tuple[LoadRow, ...] = ()
    """Points of serving loads: by target, sweep and point as configured; probes of searches stand in `searches`."""
    serving_ratios: tuple[LoadRatioRow, ...] = ()
    """Every other target against the first one, point by point of the serving sweeps."""
    searches: tuple[SearchRow, ...] = ()
    """Searches: by target as configured."""
    counterfactuals: tuple[Counterfactual, ...] = ()
    """Scores under smaller limits of the replies, where replies are long enough to tell."""
    fleet: FleetTimes | None = None
    """What was predicted against what came; None where nothing was predicted."""
    acceptances: tuple[Acceptance, ...] = ()
    """Nodes beside each other, where every node did the same work."""

    @property
    def simulated(self) -> bool:
        """True if a timing model made any number."""
        return any(target.simulated for target in self.targets)

    @property
    def num_missing(self) -> int:
        """Planned units and samples without a result."""
        return self.provenance.num_units_missing + self.provenance.num_samples_missing
