"""The `publish` part of a configuration: where results go beside the run folder."""

from typing import Literal

from pydantic import Field

from raybench.records import Record


class WandbConfig(Record):
    """Weights & Biases sink."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """offline writes a run folder without any network."""
    project: str = Field(default="raybench", pattern=r"^[^/\\#?%:]{1,128}$")
    """Project name."""
    entity: str | None = None
    """Team or user; None = the account's default."""


class PublishConfig(Record):
    """Where results go beside the run folder."""

    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""
