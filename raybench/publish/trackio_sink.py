# pyright: reportMissingImports=false, reportPrivateImportUsage=false, reportArgumentType=false
"""The trackio sink: a local database and dashboard, no account and no network.

trackio has no step metric and no summary: the flat summary is logged as a last row, and the batch size is a column.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.config.publish import PublishConfig
from raybench.errors import PublishError
from raybench.publish.content import Publication, RunContent
from raybench.publish.state import Published

if TYPE_CHECKING:
    import trackio

FOLDER = "trackio"


def make(settings: PublishConfig, folder: Path) -> "TrackioSink":
    """The sink of a run folder. Raises ModuleNotFoundError."""
    where = Path(settings.trackio.folder) if settings.trackio.folder else folder / FOLDER
    # Read when the package is loaded: data lie there, never in the home folder, and nothing goes to a hub.
    os.environ["TRACKIO_DIR"] = str(where)
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_DATASET_ID", "TRACKIO_BUCKET_ID"):
        os.environ.pop(name, None)
    import trackio  # noqa: F401, PLC0415

    return TrackioSink(settings.trackio.project, where)


class TrackioSink:
    """Runs in a local trackio project."""

    def __init__(self, project: str, folder: Path) -> None:
        self._project = project
        self._folder = folder

    def publish(self, publication: Publication) -> Published:
        """Replace every run by what the ledger says now, and count its rows."""
        import trackio  # noqa: PLC0415

        num_rows = 0
        for run in publication.runs:
            self._send(trackio, run)
            logged = trackio.SQLiteStorage.get_logs(self._project, run.id)
            wanted = len(run.history) + (2 if run.tables else 1)
            if len(logged) != wanted:
                raise PublishError(f"trackio holds {len(logged)} rows of run {run.id}, not {wanted}.")
            num_rows += len(run.history)
        return Published(
            runs=tuple(run.id for run in publication.runs), rows=num_rows,
            tables=sum(len(run.tables) for run in publication.runs), records=publication.num_records,
            closed=publication.closed, url=f"TRACKIO_DIR={self._folder} trackio show --project {self._project}",
        )  # fmt: skip

    def _send(self, library: "trackio", run: RunContent) -> None:  # pyright: ignore[reportGeneralTypeIssues]
        if run.id in library.SQLiteStorage.get_runs(self._project):
            library.SQLiteStorage.delete_run(self._project, run.id)
        live = library.init(
            project=self._project, name=run.id, group=run.group, resume="never", embed=False, auto_log_gpu=False,
            auto_log_cpu=False, config=dict(run.config) | {"display_name": run.name, "tags": ", ".join(run.tags)},
        )  # fmt: skip
        for row in run.history:
            live.log(dict(row.values), step=row.step)
        live.log(dict(run.summary), step=run.last_step + 1)
        if run.tables:
            live.log(
                {
                    table.name: library.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
                    for table in run.tables
                },
                step=run.last_step + 2,
            )
        live.finish()
