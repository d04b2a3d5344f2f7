"""The W&B sink: an offline run folder for each target, without account or network; online on request.

Written into the run folder and nowhere else: W&B's own configuration, cache and staging folders included. No host name,
path, command line, code, console or system statistics leave the machine. Runs in a process of its own that may be
killed at any time (`raybench.publish.__main__`): with the service gone, logging a table blocks for 19 s and `finish`
for as long as it is let, and a `finish` that says nothing may have uploaded nothing (W&B 0.31). So nothing that W&B
returns is believed: what was sent is read back.
"""

import shutil
from pathlib import Path

import wandb
from wandb.errors import UsageError

from raybench.config.publish import PublishConfig, WandbConfig
from raybench.errors import PublishError
from raybench.publish.content import Publication, RunContent
from raybench.publish.names import ROW_AXES
from raybench.publish.state import WANDB_FOLDER, Published
from raybench.publish.wandb_back import artifact_name, check_logs, check_service

INIT_TIMEOUT_S = 15
FINISH_TIMEOUT_S = 60
ARTIFACT_TYPE = "raybench-results"


def make(settings: PublishConfig, folder: Path) -> "WandbSink":
    """The sink of a run folder."""
    return WandbSink(settings.wandb, folder)


class WandbSink:
    """Runs, tables and artifact in W&B."""

    def __init__(self, settings: WandbConfig, folder: Path) -> None:
        self._settings = settings
        self._folder = folder

    def publish(self, publication: Publication) -> Published:
        """One run after the other, then W&B's service is ended, then everything is read back."""
        earlier = {run.id: self._offline_folders(run.id) for run in publication.runs}
        where, digests = "", dict[str, str]()
        try:
            for run in publication.runs:
                where = self._send(run, digests)
        finally:
            # Only then are the files whole, and is nothing left that could still upload.
            wandb.teardown()
        if self._settings.mode == "offline":
            fresh = {
                run.id: [p for p in self._offline_folders(run.id) if p not in earlier[run.id]]
                for run in publication.runs
            }
            check_logs(publication, fresh)
            # Synced beside the new one, an earlier folder of the same id would double every row.
            for folders in earlier.values():
                for each in folders:
                    shutil.rmtree(each)
            url, entity = str(self._folder / WANDB_FOLDER), None
        else:
            check_service(publication, where, digests, self._settings.base_url)
            url, entity = self._project_url(where), where.split("/")[0]
        return Published(
            runs=tuple(run.id for run in publication.runs),
            rows=sum(len(run.history) for run in publication.runs),
            tables=sum(len(run.tables) for run in publication.runs),
            records=publication.num_records, closed=publication.closed, url=url,
            entity=entity,
        )  # fmt: skip

    def _offline_folders(self, run_id: str) -> list[Path]:
        return sorted((self._folder / WANDB_FOLDER).glob(f"offline-run-*-{run_id}"))

    def _project_url(self, where: str) -> str:
        return f"{(self._settings.base_url or 'https://wandb.ai').rstrip('/')}/{where}"

    def _open(self, run: RunContent) -> wandb.Run:
        online = self._settings.mode == "online"
        try:
            return wandb.init(
                project=self._settings.project, entity=self._settings.entity, id=run.id, name=run.name, group=run.group,
                job_type=run.job_type, tags=run.tags, config=dict(run.config), mode="online" if online else "offline",
                dir=str(self._folder), allow_val_change=True, resume="allow" if online else None, settings=_settings(),
            )  # fmt: skip
        except UsageError as error:
            raise PublishError(
                f"W&B: {str(error).splitlines()[0]} Set WANDB_API_KEY where `raybench` runs, or put the key into "
                "~/.netrc there"
            ) from error

    def _send(self, run: RunContent, digests: dict[str, str]) -> str:
        """Send one run and note the digest of its artifact; returns `entity/project`."""
        live = self._open(run)
        for axis in ROW_AXES:
            live.define_metric(axis, summary="none")
            section = axis.partition("/")[0]
            # Without step_sync: W&B would add the last x to every row that holds any other metric of this section.
            live.define_metric(f"{section}/*", step_metric=axis, step_sync=False, summary="none")
        for row in run.history:
            if row.step >= live.starting_step:
                live.log(dict(row.values), step=row.step)
        if run.tables and run.last_step >= live.starting_step:
            made: dict[str, wandb.Table | wandb.Html] = {
                table.name: wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
                for table in run.tables
            }
            made |= {
                f"figures/{each.name.removesuffix('.svg')}": wandb.Html(each.data.decode(), inject=False)
                for each in run.attachments
                if each.name.endswith(".svg")
            }
            live.log(made, step=run.last_step)
        live.summary.update(run.summary)
        if run.attachments:
            artifact = wandb.Artifact(artifact_name(run.id), ARTIFACT_TYPE)
            for each in run.attachments:
                with artifact.new_file(each.name, mode="wb") as file:
                    file.write(each.data)
            live.log_artifact(artifact)
            digests[run.id] = artifact.digest
        where = f"{live.entity}/{live.project}"
        live.finish()
        return where


def _settings() -> wandb.Settings:
    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        # Left alone these hold the script's path, the machine's name and the user's.
        program="raybench",
        host="raybench",
        username="raybench",
        init_timeout=INIT_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        finish_timeout_raises=True,
        reinit="create_new",
    )
