# pyright: reportMissingImports=false
"""The MLflow sink, to a tracking server or database of yours.

A run is found again by its tag. Metrics carry a time that is computed from the step, so that a second publication
writes the rows that are there already.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.config.publish import MlflowConfig, PublishConfig
from raybench.errors import PublishError
from raybench.publish.content import Publication, RunContent, Scalar
from raybench.publish.names import ROW_AXES
from raybench.publish.state import Published

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID_TAG = "raybench.id"
BATCH = 500
"""Metrics in one request; a server takes 1,000."""


def make(settings: PublishConfig, folder: Path) -> "MlflowSink":  # noqa: ARG001  (every sink is made from both)
    """The sink of a run folder. Raises ModuleNotFoundError, PublishError without a tracking URI."""
    from mlflow import MlflowClient  # noqa: PLC0415

    if settings.mlflow.tracking_uri is None:
        raise PublishError("MLflow needs the address of your server: set publish.mlflow.tracking_uri.")
    return MlflowSink(MlflowClient(tracking_uri=settings.mlflow.tracking_uri), settings.mlflow)


class MlflowSink:
    """Runs in an MLflow experiment."""

    def __init__(self, client: "MlflowClient", settings: MlflowConfig) -> None:
        self._client = client
        self._settings = settings

    def publish(self, publication: Publication) -> Published:
        """Bring every run to what the ledger says, and read its metrics back."""
        experiment = self._experiment()
        num_rows = 0
        for run in publication.runs:
            self._send(run, experiment)
            num_rows += len(run.history)
        return Published(
            runs=tuple(run.id for run in publication.runs), rows=num_rows, records=publication.num_records,
            closed=publication.closed, url=f"{self._settings.tracking_uri} (experiment {self._settings.experiment})",
        )  # fmt: skip

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._settings.experiment)
        return str(found.experiment_id if found else self._client.create_experiment(self._settings.experiment))

    def _send(self, run: RunContent, experiment: str) -> None:
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

        found = self._client.search_runs([experiment], filter_string=f"tags.`{ID_TAG}` = '{run.id}'")
        tags = {ID_TAG: run.id, "raybench.group": run.group, "raybench.tags": ", ".join(run.tags)}
        there = found[0] if found else self._client.create_run(experiment, tags=tags, run_name=run.name, start_time=0)
        run_id = there.info.run_id
        if not found:
            params = [Param(name, str(value)[:500]) for name, value in run.config.items()]
            self._client.log_batch(run_id, params=params[:100])
        metrics = [
            Metric(name, float(value), 1000 * row.step, row.step)
            for row in run.history
            for name, value in _numbers(row.values).items()
        ]
        metrics += [Metric(n, v, 1000 * run.last_step, run.last_step) for n, v in _numbers(run.summary).items()]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])
        words = [RunTag(name.replace("/", "."), value) for name, value in run.summary.items() if isinstance(value, str)]
        self._client.log_batch(run_id, tags=words)
        self._client.set_terminated(run_id, end_time=1000 * run.last_step)
        self._check(run, run_id)

    def _check(self, run: RunContent, run_id: str) -> None:
        wanted = [row.step for row in run.history]
        steps = sorted(
            each.step for axis in ROW_AXES if wanted for each in self._client.get_metric_history(run_id, axis)
        )
        if steps != wanted:
            raise PublishError(f"MLflow holds the steps {steps} of run {run.id}, not {wanted}.")


def _numbers(values: dict[str, Scalar]) -> dict[str, float]:
    return {n: float(v) for n, v in values.items() if not isinstance(v, str) and math.isfinite(float(v))}
