"""The configuration of a run: frozen, closed, with a meaning under every field.

Pure: nothing here reads a file. Names of evals are checked here only for shape; `raybench.plan.expand` resolves them.
"""

from typing import Annotated, Literal, cast

from pydantic import Discriminator, Field, JsonValue, Tag, ValidationError, field_validator, model_validator

from raybench.config.evals import EvalConfig
from raybench.config.names import Name
from raybench.config.preflight import PreflightConfig
from raybench.config.publish import PublishConfig
from raybench.config.serving import (
    AnyServingSweep,
    ClosedSweep,
    OpenSweep,
    RampSweep,
    SessionsSweep,
    SloSearch,
    TraceSweep,
)
from raybench.records import Record, WarmUp

FlagValue = str | int | float | bool | None | dict[str, JsonValue] | list[str | int | float]
"""A flag's value: true = the bare flag, false or null = left out, a list = several words, a mapping = one JSON word."""


class ModelConfig(Record):
    """The model that every target serves."""

    path: str = Field(min_length=1)
    """Folder on the node, hub id (`owner/name`), or `tiny:trained`, `tiny:random`, `dummy:SHAPE` made by raybench."""
    revision: str | None = None
    """Hub revision (branch, tag or commit); None = the hub's default. Resolved and recorded on the node."""
    served_name: str | None = None
    """Name under which the engine serves it; None = the path."""


class ManagedEnvironment(Record):
    """A virtual environment that raybench makes and caches once per version and device."""

    version: str = Field(pattern=r"^\d+\.\d+\.\d+([.a-z0-9]*)$")
    """SGLang version."""
    device: Literal["cpu", "cuda"]
    """Device the environment is built for."""


class PythonEnvironment(Record):
    """An interpreter that already holds the engine."""

    python: str = Field(min_length=1)
    """Path of the interpreter on the node."""


class Managed(Record):
    """Wrapper that gives the YAML its shape: `{managed: {...}}`."""

    managed: ManagedEnvironment
    """The environment to make."""


Environment = Literal["auto"] | PythonEnvironment | Managed


class FaultConfig(Record):
    """Faults that the simulated engine plays, for tests and planning."""

    stall_s: float = Field(default=0, ge=0)
    """Silence in the middle of every stream, simulated seconds."""
    early_stop_fraction: float = Field(default=0, ge=0, le=1)
    """Share of requests whose reply ends at half of what was asked."""
    http_error_fraction: float = Field(default=0, ge=0, le=1)
    """Share of requests that are answered with status 500."""
    no_usage: bool = False
    """Leave out usage and meta_info counts."""
    truncate_fraction: float = Field(default=0, ge=0, le=1)
    """Share of chat replies that are cut at max_tokens with finish_reason length."""
    long_reply_factor: float = Field(default=1, gt=0)
    """Factor on the length of chat replies."""
    tokens_per_chunk: int = Field(default=1, ge=1)
    """Tokens in one chunk of a stream."""
    cached_fraction: float = Field(default=0, ge=0, le=1)
    """Share of prompt tokens that is said to come from the prefix cache."""
    die_after_requests: int | None = Field(default=None, ge=1)
    """The process kills itself at this request; None = never."""
    refuse_start: bool = False
    """The process ends during its start."""
    http_error_burst: tuple[int, int] | None = None
    """First and last request, counted from 1, that are answered with status 503; None = none."""
    loop_fraction: float = Field(default=0, ge=0, le=1)
    """Share of chat replies that repeat one sentence until they are cut at max_tokens."""
    answer_form: Literal["plain", "bold", "prose"] = "plain"
    """How chat replies state their answer: as graders like it, as `**Answer:** 70`, or where no grader looks."""
    wrong_fraction: float = Field(default=0, ge=0, le=1)
    """Share of right answers that are given wrong."""
    system_prompt_tokens: int = Field(default=0, ge=0)
    """Tokens of a system prompt that the server slips into every chat."""
    ignore_seed: bool = False
    """Every repeat of a question gets the same reply, as from an engine that samples with one seed."""
    slow_factor: float = Field(default=1, ge=1)
    """Prefill and decode take so many times as long."""
    on_nodes: tuple[str, ...] = ()
    """Names of the nodes (`n0`) that play these faults; empty = all."""


class SimulatedConfig(Record):
    """The timing model of the simulated engine."""

    prefill_tok_per_s: dict[int, float] = Field(min_length=1)
    """Input tokens per second by batch size; between sizes interpolated, beyond the ends held."""
    itl_ms: dict[int, float] = Field(min_length=1)
    """Milliseconds per decode step by batch size; between sizes interpolated, beyond the ends held."""
    jitter_fraction: float = Field(default=0.005, ge=0, lt=1)
    """Spread of a whole pass (one standard deviation, drawn from the request's seed)."""
    startup_s: float = Field(default=1, ge=0)
    """Time until ready, simulated seconds."""
    time_scale: float = Field(default=1, ge=1)
    """Simulated seconds per real second."""
    accuracy: dict[str, float] = {}
    """Share of right answers by eval name; evals not named are answered at 0.5."""
    settled_fraction: float = Field(default=0, ge=0, le=1)
    """Share of questions that every repeat answers alike, rightly or wrongly, as hard and easy ones of a real exam are;
    0 = every answer is drawn alone. The accuracy stays what it is."""
    reply_tokens: dict[str, int] = {}
    """Mean length of replies by eval name; evals not named have 64."""
    token_capacity: int = Field(default=2_000_000, ge=1)
    """Tokens that the KV cache is said to hold."""
    max_running_requests: int = Field(default=4096, ge=1)
    """Requests that run at once under a serving load; others queue."""
    faults: FaultConfig = FaultConfig()
    """Faults to play."""


class EngineConfig(Record):
    """How the engine of every target is started; a target may override single settings."""

    kind: Literal["sglang", "external", "simulated"] = "sglang"
    """sglang = launched by raybench; external = already running at `url`; simulated = a timing model."""
    environment: Environment = "auto"
    """Interpreter of the engine; auto = the node's own python if it holds sglang, else managed."""
    args: dict[str, FlagValue] = {}
    """Flags by their full name without dashes (`tp-size: 8`)."""
    env: dict[str, str] = {}
    """Environment variables of the engine process, added to a whitelisted environment."""
    startup_timeout_s: float = Field(default=1800, gt=0)
    """Limit for the start in seconds; a first start compiles kernels."""
    url: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of an external engine."""
    api_key_env: str | None = None
    """Name of the environment variable (on the node) that holds an external engine's key."""
    simulated: SimulatedConfig | None = None
    """Timing model of the simulated engine."""

    @field_validator("args")
    @classmethod
    def _full_flag_names(cls, args: dict[str, FlagValue]) -> dict[str, FlagValue]:
        for name in args:
            if name.startswith("-") or "_" in name or name != name.lower():
                raise ValueError(f"flag {name!r} must be the full name without dashes in front, such as 'tp-size'")
            if name in ("model-path", "host", "port", "served-model-name", "revision"):
                raise ValueError(
                    f"flag {name!r} is set by raybench itself (model.path, model.revision, model.served_name)"
                )
        return args

    @model_validator(mode="after")
    def _complete(self) -> "EngineConfig":
        if (self.kind == "external") != (self.url is not None):
            raise ValueError("engine.url belongs to kind external, and external needs it")
        if (self.kind == "simulated") != (self.simulated is not None):
            raise ValueError("engine.simulated belongs to kind simulated, and simulated needs it")
        return self


class EngineOverride(Record):
    """What a target changes of the common engine settings. None = as in `engine`."""

    kind: Literal["sglang", "external", "simulated"] | None = None
    """Other kind of engine."""
    environment: Environment | None = None
    """Other interpreter."""
    args: dict[str, FlagValue] = {}
    """Flags added to or replacing the common ones; null removes one."""
    env: dict[str, str] = {}
    """Variables added to or replacing the common ones."""
    startup_timeout_s: float | None = Field(default=None, gt=0)
    """Other limit for the start."""
    url: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of an external engine."""
    api_key_env: str | None = None
    """Other variable of an external engine's key."""
    simulated: SimulatedConfig | None = None
    """Other timing model."""


class TargetConfig(Record):
    """One arm of the comparison: accelerator group x model x engine settings."""

    name: Name
    """Name in tables and file names."""
    accelerator: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")
    """Ray accelerator type: H200, B200 ...; CPU for machines without one."""
    nodes: int = Field(default=1, ge=1)
    """Machines of this target."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of one machine; 0 for CPU and for simulated engines."""
    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    """Price of one GPU for one hour, any one currency; None = no cost columns. Never part of a key."""
    engine: EngineOverride = EngineOverride()
    """Changes to the common engine settings."""


class OneBatchSweep(Record):
    """A sweep over static batches."""

    name: Name = "one-batch"
    """Name in tables."""
    load: Literal["one_batch"] = "one_batch"
    """Kind of load."""
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Batch sizes, each one load point."""
    input_tokens: int = Field(ge=1)
    """Tokens of every prompt."""
    output_tokens: int = Field(ge=2)
    """Tokens of every reply."""
    repeats: int = Field(default=3, ge=1)
    """Measured passes of every point on one launch."""
    launches: int = Field(default=1, ge=1)
    """Engine starts over which everything is repeated."""
    every_node: bool = False
    """True: every node of a target does all of it, and the report ranks the nodes (fleet acceptance). False: the
    target's nodes share the repeats."""
    warm_up: WarmUp = WarmUp()
    """Warm-up at the measured shape."""
    timeout_s: float = Field(default=1800, gt=0)
    """Limit of one unit in seconds."""

    def num_repeats(self, num_nodes: int) -> int:
        """Passes of every point on one launch, over all nodes of a target."""
        return self.repeats * (num_nodes if self.every_node else 1)

    @field_validator("batch_sizes")
    @classmethod
    def _distinct(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(sizes)) != len(sizes):
            raise ValueError("batch sizes must be distinct")
        return sizes


def _load_of(entry: object) -> str:
    """Which kind of load an entry under `perf` is: `one_batch` where it does not say."""
    if isinstance(entry, dict):
        return str(cast("dict[str, object]", entry).get("load", "one_batch"))
    return str(getattr(entry, "load", "one_batch"))


Sweep = Annotated[
    Annotated[OneBatchSweep, Tag("one_batch")]
    | Annotated[ClosedSweep, Tag("closed")]
    | Annotated[OpenSweep, Tag("open")]
    | Annotated[RampSweep, Tag("ramp")]
    | Annotated[TraceSweep, Tag("trace")]
    | Annotated[SessionsSweep, Tag("sessions")]
    | Annotated[SloSearch, Tag("slo_search")],
    Discriminator(_load_of),
]
"""An entry under `perf`, by its `load`."""


class RunConfig(Record):
    """The whole configuration of a run."""

    name: Name
    """Name of the study; part of the run folder's name."""
    seed: int = 0
    """Seed of prompts, orders and request seeds."""
    model: ModelConfig
    """The model."""
    targets: tuple[TargetConfig, ...] = Field(min_length=1)
    """Arms of the comparison."""
    engine: EngineConfig = EngineConfig()
    """Common engine settings."""
    perf: tuple[Sweep, ...] = ()
    """Performance sweeps and searches."""
    evals: tuple[EvalConfig, ...] = ()
    """Accuracy evaluations."""
    preflight: PreflightConfig = PreflightConfig()
    """Checks before the evaluations."""
    publish: PublishConfig = PublishConfig()
    """Sinks."""

    @property
    def batch_sweeps(self) -> tuple[OneBatchSweep, ...]:
        """Sweeps over static batches."""
        return tuple(sweep for sweep in self.perf if isinstance(sweep, OneBatchSweep))

    @property
    def serving_sweeps(self) -> tuple[AnyServingSweep, ...]:
        """Sweeps and searches over serving loads."""
        return tuple(sweep for sweep in self.perf if not isinstance(sweep, OneBatchSweep))

    @property
    def trace_sweeps(self) -> tuple[TraceSweep, ...]:
        """Sweeps that replay a trace."""
        return tuple(sweep for sweep in self.perf if isinstance(sweep, TraceSweep))

    @model_validator(mode="after")
    def _names_and_work(self) -> "RunConfig":
        for what, names in (
            ("targets", [t.name for t in self.targets]),
            ("perf", [s.name for s in self.perf]),
            ("evals", [e.name for e in self.evals]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{what}: the name {twice[0]!r} is used twice")
        if not self.perf and not self.evals:
            raise ValueError("nothing to do: give at least one entry under perf or evals")
        for i, target in enumerate(self.targets):
            try:
                engine_of(self, target)
            except ValidationError as error:
                reason = "; ".join(str(e.get("ctx", {}).get("error", e["msg"])) for e in error.errors())
                raise ValueError(f"targets.{i}.engine: together with the common engine settings: {reason}") from None
        return self


def engine_of(config: RunConfig, target: TargetConfig) -> EngineConfig:
    """The engine settings of one target: the common ones with the target's own laid over them.

    Raises ValueError (pydantic's ValidationError is one) when the combination is impossible.
    """
    over = target.engine
    merged: dict[str, object] = {name: getattr(config.engine, name) for name in EngineConfig.model_fields}
    for name in over.model_fields_set - {"args", "env"}:
        if getattr(over, name) is not None:
            merged[name] = getattr(over, name)
    if over.kind is not None and over.kind != config.engine.kind:
        # Settings that belong to the replaced kind do not carry over.
        merged["url"] = over.url
        merged["simulated"] = over.simulated
    args = config.engine.args | over.args
    merged["args"] = {name: value for name, value in args.items() if value is not None and value is not False}
    merged["env"] = config.engine.env | over.env
    return EngineConfig.model_validate(merged)
