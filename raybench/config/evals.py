"""The `evals` part of a configuration. Names are checked for their shape only; `raybench.evals` knows the evals."""

from pydantic import Field, model_validator

from raybench.config.names import Name
from raybench.records import Record, Route, Sampling


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
    route: Route = "chat"
    """`chat` = through the chat template, `completions` = the bare text, for models without a chat format."""
    limit: int | None = Field(default=None, ge=1)
    """First questions only; None = all."""
    baseline: float | None = Field(default=None, ge=0, le=1)
    """Published or earlier score that the result is held against; None = no gate."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """Loss against the baseline that is still accepted."""
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
