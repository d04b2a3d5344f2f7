"""The Parquet data set `history/`: load points and evals of many runs as flat rows, for `raybench compare`, notebooks.

`points/SWEEP.parquet` (static batches), `loads/SWEEP.parquet` (serving loads) and `evals/SWEEP.parquet`, a file per run
folder: publishing again replaces it whole, and several machines may write one data set. Read it with
`pandas.read_parquet(folder / "points")` or DuckDB.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from raybench.config.publish import PublishConfig
from raybench.errors import PublishError
from raybench.publish.content import Cell, Publication, Row, RunContent, Scalar
from raybench.publish.names import SERVING_X, X_AXIS
from raybench.publish.state import Published

HISTORY = "history"
POINTS, LOADS, EVALS = "points", "loads", "evals"
IDENTITY = (
    "study", "sweep_id", "target", "hardware", "gpus", "nodes", "model", "model_revision", "engine", "engine_version",
    "simulated", "plan_hash", "config_hash", "price_per_gpu_hour",
)  # fmt: skip
"""Configuration keys that every row repeats, so that rows of many runs can be told apart."""


def make(settings: PublishConfig, folder: Path) -> "ParquetSink":
    """The sink of a run folder."""
    return ParquetSink(Path(settings.history) if settings.history else folder / HISTORY)


class ParquetSink:
    """Three tables, a file in each for every run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, publication: Publication) -> Published:
        """Write the files of every run folder, whole or not at all, and read them back."""
        runs = [run for run in publication.runs if run.job_type == "bench"]
        num_rows = 0
        for sweep in dict.fromkeys(str(run.config["sweep_id"]) for run in runs):
            mine = [run for run in runs if run.config["sweep_id"] == sweep]
            num_rows += self._write(POINTS, sweep, [row for run in mine for row in points_of(run)])
            num_rows += self._write(LOADS, sweep, [row for run in mine for row in loads_of(run)])
            self._write(EVALS, sweep, [row for run in mine for row in evals_of(run)])
        return Published(
            runs=tuple(run.id for run in runs), rows=num_rows, tables=3, records=publication.num_records,
            closed=publication.closed, url=str(self._folder),
        )  # fmt: skip

    def _write(self, table: str, sweep: str, rows: Sequence[dict[str, Cell]]) -> int:
        path = self._folder / table / f"{sweep}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pd.DataFrame(list(rows)).to_parquet(part)
        if (found := len(pd.read_parquet(part))) != len(rows):
            raise PublishError(f"{path} holds {found} rows where {len(rows)} were written.")
        part.replace(path)
        return len(rows)


def points_of(run: RunContent) -> list[dict[str, Cell]]:
    """Points of static batches; of a point that has several rows, the last one counts."""
    return _latest(run, "perf/", X_AXIS)


def loads_of(run: RunContent) -> list[dict[str, Cell]]:
    """Points of serving loads, alike."""
    return _latest(run, "serving/", SERVING_X)


def _latest(run: RunContent, prefix: str, axis: str) -> list[dict[str, Cell]]:
    latest = {(row.values[f"{prefix}sweep"], row.values[axis]): row for row in run.history if axis in row.values}
    return [_identity(run) | dict(_columns(row, prefix)) for row in latest.values()]


def _columns(row: Row, prefix: str) -> Iterator[tuple[str, Scalar]]:
    """Values by column; what stands in a row once more, under its sweep's name, is for charts."""
    for name, value in (row.values | row.revisable).items():
        column = name.removeprefix(prefix)
        if "/" not in column:
            yield column, value


def evals_of(run: RunContent) -> list[dict[str, Cell]]:
    """Evals of a run, from its summary's flat keys."""
    found: dict[str, dict[str, Scalar]] = {}
    for key, value in run.summary.items():
        section, _, rest = key.partition("/")
        if section == "eval":
            name, _, quantity = rest.partition("/")
            found.setdefault(name, {})[quantity] = value
    return [_identity(run) | {"eval": name} | values for name, values in found.items()]


def _identity(run: RunContent) -> dict[str, Cell]:
    shared: dict[str, Cell] = {name: run.config.get(name) for name in IDENTITY}
    return {"run": run.id, "validity": run.summary["raybench/validity"]} | shared
