"""The `evals` part of a configuration. Names are checked for their shape only; `raybench.evals` knows the evals."""

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from raybench.config.names import Name
from raybench.config.reference import MeasuredReference
from raybench.config.stopping import AdaptiveRepeats, StopRules
from raybench.records import Record, Route, Sampling


class Preset(Record):
    """Settings of an eval by a name of their own."""

    sampling: Sampling
    """Sampling fields."""
    repeats: int = Field(default=1, ge=1)
    """Times that every question is asked."""


PresetTable = Callable[[str, bool], Mapping[str, Preset]]
"""(name of an eval, is it a custom one) -> its presets by name. Raises ConfigError for a name that no eval has."""


class CustomColumns(Record):
    """Names that the columns of a custom eval's rows have in the file; case is ignored."""

    question: str = Field(min_length=1)
    """Column of the question's text."""
    answer: str = Field(min_length=1)
    """Column of the right answer."""
    id: str | None = Field(default=None, min_length=1)
    """Column of a stable id; None = questions are named by a hash of their text."""
    wrong: tuple[str, ...] = Field(default=(), max_length=9)
    """Grader `letter`: columns of the wrong options, which are shown with the right one in a drawn order. Empty = the
    question's text lists the options and the answer is a letter."""


class CustomEval(Record):
    """An eval that the configuration itself describes, for rows of the user's own."""

    columns: CustomColumns
    """Which column is what."""
    grader: Literal["integer", "letter", "math", "exact"]
    """How answers are read: an integer, a letter, a short LaTeX expression, or a text that must be the same."""
    request: str | None = Field(default=None, min_length=1)
    """Sentence that follows the question and asks for the answer's form. None = a box, or for letters the `answer`
    field."""
    min_max_tokens: int = Field(default=16, ge=1)
    """Smallest `sampling.max_tokens` that leaves room for a reply; less earns a finding."""


def _sampling_or_preset(schema: dict[str, JsonValue]) -> None:
    """A preset stands in for `sampling`; in the file that a person writes either will do."""
    schema["required"] = ["name"]


class EvalConfig(Record):
    """One accuracy evaluation, with nothing left to its preset: `raybench.config.read` has laid that underneath."""

    model_config = ConfigDict(json_schema_extra=_sampling_or_preset)

    name: Name
    """Name of a built-in eval (dashes and underscores alike), or with `custom` any other."""
    rows: str = "default"
    """`default` = the eval's own source, `synthetic` = stand-in questions, a hub id, a JSONL, Parquet or CSV file."""
    custom: CustomEval | None = None
    """What the eval is, where raybench does not know it. None = a built-in one."""
    preset: str | None = None
    """Name of the model maker's settings (`card`, `report`): `sampling` and `repeats` where the file leaves them
    out."""
    sampling: Sampling
    """Sampling fields; all are sent. With a preset only those that differ need to be given."""
    repeats: int = Field(default=1, ge=1)
    """Times that every question is asked. Default with a preset: what the eval recommends."""
    greedy_repeats: bool = False
    """True: repeats at temperature 0 are wanted, to measure the noise of batching."""
    route: Route = "chat"
    """`chat` = through the chat template, `completions` = the bare text, for models without a chat format."""
    limit: int | None = Field(default=None, ge=1)
    """First questions only; None = all."""
    baseline: float | None = Field(default=None, ge=0, le=1)
    """Published score, another harness's number: shown beside the result, and no gate unless `gate: published`."""
    reference: str | MeasuredReference | None = None
    """File that `raybench report RUN_DIR --save-reference FILE` wrote, relative to the configuration. Its entry for
    this eval takes the file's place when the configuration is read. None = no measured reference."""
    gate: Literal["reference", "published", "none"] | None = None
    """What the score must not fall below by more than the margin. None = the reference where there is one, else
    nothing."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """Loss that the gate still accepts."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight on one node, over all units that run there."""
    block_size: int = Field(default=4, ge=1)
    """Samples in one unit. Units run beside each other on a node up to `concurrency`: small ones keep it busy to the
    end and lose little with a node; each costs a client process."""
    timeout_s: float = Field(default=3600, gt=0)
    """Limit of one request in seconds; one that runs into it counts as errored and is not sent again."""

    stop_rules: StopRules = StopRules()
    """When it ends early because its score could not be used."""
    adaptive: AdaptiveRepeats | None = None
    """Repeats in stages, the later ones only while the gate is undecided; None = all repeats."""

    @model_validator(mode="after")
    def _adaptive_plan(self) -> "EvalConfig":
        if self.adaptive is None:
            return self
        if self.gated_by == "none":
            raise ValueError("adaptive needs a gate (a reference, or gate: published): its stages end when it decides")
        if self.adaptive.stages[-1] != self.repeats:
            raise ValueError(f"adaptive.stages must end at repeats ({self.repeats})")
        return self

    @model_validator(mode="after")
    def _greedy_once(self) -> "EvalConfig":
        if self.sampling.temperature == 0 and self.repeats > 1 and not self.greedy_repeats:
            raise ValueError(
                "repeats at temperature 0 measure batching noise only; set repeats: 1 or a temperature, or if that "
                "noise is what you want greedy_repeats: true"
            )
        return self

    @model_validator(mode="after")
    def _rows_of_a_custom_eval(self) -> "EvalConfig":
        if self.custom is not None and self.rows in ("default", "synthetic"):
            raise ValueError(f"a custom eval has no rows of its own: rows: {self.rows} must be a file or a hub id")
        if self.custom is not None and self.custom.columns.wrong and self.custom.grader != "letter":
            raise ValueError("custom.columns.wrong belongs to the grader letter")
        return self

    @model_validator(mode="after")
    def _gate_has_a_number(self) -> "EvalConfig":
        if self.gate == "published" and self.baseline is None:
            raise ValueError("gate: published needs the published score as baseline")
        if self.gate == "reference" and self.reference is None:
            raise ValueError("gate: reference needs a reference file; make one with raybench report --save-reference")
        return self

    @property
    def gated_by(self) -> Literal["reference", "published", "none"]:
        """What gates, with the default resolved."""
        return self.gate or ("reference" if self.reference is not None else "none")

    @property
    def measured_reference(self) -> MeasuredReference | None:
        """The entry of the reference file; None without one. Raises ValueError when the file was never read."""
        if isinstance(self.reference, str):
            raise ValueError(f"evals: {self.name}: the reference file {self.reference} was not read (use config.read)")
        return self.reference
