"""What a sink is, and the sinks by name. A new sink is one new file and one line here."""

import importlib
from pathlib import Path
from typing import Protocol

from raybench.config.publish import PublishConfig, SinkName
from raybench.errors import PublishError
from raybench.publish.content import Publication
from raybench.publish.state import Published


class Sink(Protocol):
    """Somewhere where results are shown."""

    def publish(self, publication: Publication) -> Published:
        """Bring the sink to this state and read it back. The same publication twice leaves what it left once.

        Raises whatever its library raises, PublishError where what was read back is not what was sent.
        """
        ...


class SinkMaker(Protocol):
    """What every module of a sink has under the name `make`."""

    def __call__(self, settings: PublishConfig, folder: Path) -> Sink: ...


MODULES: dict[SinkName, str] = {
    "wandb": "raybench.publish.wandb_sink",
    "parquet": "raybench.publish.parquet_sink",
    "trackio": "raybench.publish.trackio_sink",
    "mlflow": "raybench.publish.mlflow_sink",
}
"""Loaded by name and late: a sink's library is a matter of its own process."""

EXTRAS: dict[str, str] = {"wandb": "wandb", "wandb_workspaces": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
"""Package -> extra of raybench that brings it."""


def sink_named(name: SinkName, settings: PublishConfig, folder: Path) -> Sink:
    """The sink. Raises PublishError that says how to install what it lacks."""
    try:
        make: SinkMaker = importlib.import_module(MODULES[name]).make
        return make(settings, folder)
    except ModuleNotFoundError as error:
        raise missing(error) from error


def missing(error: ModuleNotFoundError) -> PublishError:
    """The error in words: what to install."""
    package = (error.name or "").split(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return PublishError(f"a package is missing: {error}")
    return PublishError(f"the package {package} is not installed. Install it with: pip install 'raybench[{extra}]'")
