"""The `evals` part of a configuration. Names are checked for their shape only; `raybench.evals` knows the evals."""

from typing import Literal

from pydantic import Field, model_validator

from raybench.config.names import Name
from raybench.config.reference import MeasuredReference
from raybench.records import Record, Sampling


class EvalConfig(Record):
    """One accuracy evaluation."""

    name: Name
    """Name of a built-in eval: `sums`, `aime25`, `gpqa_diamond` (dashes and underscores alike)."""
    rows: str = "default"
    """`default` = the eval's own source, `synthetic` = stand-in questions, a hub id, a JSONL, Parquet or CSV file."""
    sampling: Sampling
    """Sampling fields; all are sent."""
    repeats: int = Field(default=1, ge=1)
    """Times that every question is asked."""
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
    """Requests in flight on one node."""
    block_size: int = Field(default=16, ge=1)
    """Samples in one unit."""
    timeout_s: float = Field(default=3600, gt=0)
    """Limit of one request in seconds."""

    @model_validator(mode="after")
    def _greedy_once(self) -> "EvalConfig":
        if self.sampling.temperature == 0 and self.repeats > 1:
            raise ValueError("repeats at temperature 0 measure batching noise only; set repeats: 1 or a temperature")
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
