"""The `publish` part of a configuration: where results go beside the run folder."""

from typing import Literal

from pydantic import Field, field_validator

from raybench.records import Record

SinkName = Literal["wandb", "parquet", "trackio", "mlflow"]
ShareSamples = Literal["full", "hashed", "none"]


class WandbConfig(Record):
    """Weights & Biases sink. A flag of `raybench publish` comes before `WANDB_*` variables, and these before this."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """offline writes a run folder without any network (variable WANDB_MODE)."""
    project: str = Field(default="raybench", pattern=r"^[^/\\#?%:]{1,128}$")
    """Project name (variable WANDB_PROJECT)."""
    entity: str | None = None
    """Team or user (variable WANDB_ENTITY); None = the account's default."""
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    """Address of a server of your own (variable WANDB_BASE_URL); None = the public service."""
    views: bool = True
    """Make the workspace and the report after an online publication; their specifications are written in any mode."""


class TrackioConfig(Record):
    """trackio sink: a local database and dashboard without an account (`pip install 'raybench[trackio]'`)."""

    project: str = Field(default="raybench", pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    """Project name."""
    folder: str | None = None
    """Folder of its database; None = `trackio/` in the run folder."""


class MlflowConfig(Record):
    """MLflow sink (`pip install 'raybench[mlflow]'`)."""

    tracking_uri: str | None = None
    """Tracking URI of your server or database, such as `http://host:5000` or `sqlite:////folder/mlflow.db`."""
    experiment: str = "raybench"
    """Experiment name."""


class PublishConfig(Record):
    """Where results go beside the run folder."""

    sinks: tuple[SinkName, ...] = ("parquet", "wandb")
    """Sinks that `raybench run` publishes to, in order."""
    share_samples: ShareSamples = "hashed"
    """What leaves of an eval's samples: full = with answers and trimmed replies, hashed = ids, outcomes and hashes,
    none = nothing. Evals whose questions may not be shown (GPQA), and custom ones, send ids and hashes at most."""
    follow: bool = False
    """Publish while the run goes on, so that curves grow; else once at its end."""
    follow_every_s: float = Field(default=30, gt=0)
    """Seconds between two publications of a run that is followed."""
    wait_s: float = Field(default=120, ge=0)
    """Seconds that `raybench run` waits for its publisher at the end; the publisher goes on without it."""
    limit_s: float = Field(default=600, gt=0)
    """Seconds after which one publication to one sink is killed."""
    history: str | None = None
    """Folder of the Parquet data set, which may be shared by many runs; None = `history/` in the run folder."""
    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""
    trackio: TrackioConfig = TrackioConfig()
    """trackio."""
    mlflow: MlflowConfig = MlflowConfig()
    """MLflow."""

    @field_validator("sinks")
    @classmethod
    def _distinct(cls, sinks: tuple[SinkName, ...]) -> tuple[SinkName, ...]:
        if len(set(sinks)) != len(sinks):
            raise ValueError("a sink is named twice")
        return sinks
