"""`python -m raybench.publish FOLDER`: carry out the job that lies in the folder, once, and leave an answer beside it.

A process of its own for every try: W&B keeps the id of a run whose start failed, waits without end when its service is
gone, and may only be believed after its own process is over. Whoever starts this sets a wall limit (`supervise`).
"""

import ctypes
import datetime
import gc
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from raybench.engine.redaction import redact, secrets_of
from raybench.errors import RaybenchError
from raybench.publish.comparison import Compared, compare, comparison_run, without_samples
from raybench.publish.content import Attachment, Publication, RunContent
from raybench.publish.job import Answer, Job, answer_path, job_path
from raybench.publish.projection import attachments
from raybench.publish.settings import ACCESS
from raybench.publish.sink import sink_named
from raybench.publish.source import read_source
from raybench.publish.state import WANDB_FOLDER, Published
from raybench.publish.targets import Source, target_runs

NICENESS = 15
ERROR_CHARS = 600


def main(folder: Path) -> int:
    """Do the job; never raises for what a sink does. Exit code 0: published; 1: not."""
    job = Job.model_validate_json(job_path(folder).read_bytes())
    if job.live:
        os.nice(NICENESS)
    try:
        answer = Answer(published=carry_out(job))
    except Exception as error:  # noqa: BLE001  a sink may raise anything, and all of it means the same
        text = error.message if isinstance(error, RaybenchError) else f"{type(error).__name__}: {error}"
        answer = Answer(error=redact(text, secrets_of({}, os.environ))[:ERROR_CHARS])
    path = answer_path(folder)
    part = path.with_suffix(".part")
    part.write_text(answer.model_dump_json(), encoding="utf-8")
    part.replace(path)
    sys.stdout.flush()
    return 0 if answer.published else 1


def carry_out(job: Job) -> Published:
    """Read the folders, publish, make the views. Raises what the sink raises."""
    first = Path(job.folders[0])
    prepared = _prepare(job)
    # A ledger takes five times its size in memory, and W&B is about to take its own share.
    _give_back_memory()
    if job.sink == "wandb":
        isolate(first, job.settings.wandb.base_url)
        if job.settings.wandb.mode == "online":
            with tempfile.TemporaryDirectory(prefix="raybench-") as staging:
                # The manifest that W&B uploads names the folder in which it staged a file (`local_path`): not ours.
                os.environ["WANDB_DATA_DIR"] = staging
                return _publish(job, prepared, first)
    return _publish(job, prepared, first)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is sent and shown, without the ledgers that it was made from."""

    publication: Publication
    compared: Compared | None


def _prepare(job: Job) -> Prepared:
    sources = [read_source(Path(folder), job.attempt) for folder in job.folders]
    compared = _compared(job, sources)
    publication = _publication(job, sources, compared)
    return Prepared(publication, compared and without_samples(compared))


def _give_back_memory() -> None:
    """Hand to the machine what was freed: the C library keeps it otherwise."""
    gc.collect()
    with suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _publish(job: Job, prepared: Prepared, first: Path) -> Published:
    sink = sink_named(job.sink, job.settings, first)
    done = sink.publish(prepared.publication)
    if job.sink == "wandb" and prepared.compared is not None:
        # Late: its library is loaded where it is needed only.
        from raybench.publish.view_store import show  # noqa: PLC0415

        known = done.model_copy(update={"workspace_url": job.known.workspace_url, "report_url": job.known.report_url})
        runs = prepared.publication.runs
        done = show(prepared.compared, runs, job.settings.wandb, first, known)
    return done


def _compared(job: Job, sources: list[Source]) -> Compared | None:
    """The comparison; None while one of the runs goes on."""
    if not all(source.closed for source in sources):
        return None
    last_s = max(source.view.last_t for source in sources)
    date = datetime.datetime.fromtimestamp(last_s, datetime.UTC).date().isoformat()
    return compare(sources, job.settings.share_samples, date)


def _publication(job: Job, sources: list[Source], compared: Compared | None) -> Publication:
    share = job.settings.share_samples
    runs: list[RunContent] = []
    if len(sources) == 1 or job.settings.wandb.mode == "online" or job.sink != "wandb":
        # Offline, the other folder has its own runs: here they would be sent a second time by a `wandb sync`.
        runs = [run for source in sources for run in target_runs(source, share)]
    if compared is not None:
        files = [file for source in sources for file in attachments(source, share, several=len(sources) > 1)]
        files += _figures(compared)
        runs.append(comparison_run(compared, sources, files))
    return Publication(tuple(runs), sum(len(source.records) for source in sources), compared is not None)


def _figures(compared: Compared) -> tuple[Attachment, ...]:
    # Late: the drawing library takes half a second, and a run that goes on has no figures.
    from raybench.publish.figures import figures  # noqa: PLC0415

    return figures(compared)


def isolate(folder: Path, base_url: str | None) -> None:
    """Point W&B at the run folder, its own configuration, cache and staging included, and drop what else steers it."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name not in ACCESS]:
        del os.environ[name]
    inside = folder / WANDB_FOLDER
    inside.mkdir(exist_ok=True)
    os.environ["WANDB_DIR"] = str(folder)
    for what in ("config", "cache", "data"):
        os.environ[f"WANDB_{what.upper()}_DIR"] = str(inside / what)
    # Offline mode sends telemetry all the same, and a network that swallows packets then delays the exit by seconds.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    if base_url is not None:
        os.environ["WANDB_BASE_URL"] = base_url


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
