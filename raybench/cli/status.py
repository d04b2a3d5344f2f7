"""`raybench status`: how far a run is, from its folder or through its job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raybench.cli.submit import ADDRESS, Address

if TYPE_CHECKING:
    from rich.console import Console

    from raybench.driver.job import JobStanding

WATCH_EVERY_S = 5.0
LOG_LINES = 15
"""Last lines of a job's log that are shown where its run folder cannot be read from here."""
RESUMED_AFTER_S = 60.0
"""A record so much younger than a job's end is of a driver that has taken the run up; the head's clock told both."""
OVER = ("ended", "interrupted")
"""Phases of a run that nobody works at."""

Parts = dict[str, bytes]
"""Parts of a ledger on object storage that earlier looks got."""


def status(
    run: Annotated[str, typer.Argument(metavar="RUN_DIR|JOB", help="Run folder, or id of a job.", show_default=False)],
    address: Address = ADDRESS,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every few seconds until the run ends.")] = False,
) -> None:
    """Print nodes, work, rates, an estimate of the rest, and the findings so far. Changes nothing."""
    import time

    from rich.console import Console

    console = Console(highlight=False)
    parts: Parts = {}
    while not _show(run, address, console, parts, watch=watch) and watch:
        time.sleep(WATCH_EVERY_S)
        console.clear()


def _show(run: str, address: str, console: "Console", parts: Parts, *, watch: bool) -> bool:
    """Print it once; returns True when it has ended."""
    from raybench.driver.folder import ledger_alone
    from raybench.driver.store import is_url
    from raybench.errors import NotBegun

    if not is_url(run) and not _may_be_folder(run):
        return _show_job(run, address, console, parts)
    try:
        with ledger_alone(run, parts) as folder:
            return _show_folder(folder, console) in OVER
    except NotBegun as error:
        if not watch:
            raise
        console.print(error.message, markup=False, soft_wrap=True)
        return False


def _may_be_folder(run: str) -> bool:
    try:
        return Path(run).is_dir()
    except OSError:
        return True  # reading it says what is wrong with it


def _show_folder(folder: Path, console: "Console", job: "JobStanding | None" = None) -> str:
    """Print how far the run is, and return its phase. `job`: the one that it is, where it was found through one."""
    import time
    from dataclasses import replace

    from raybench.ledger.journal import read
    from raybench.report.progress import Progress
    from raybench.report.progress_page import status_lines
    from raybench.report.write import read_report

    records = read(folder)
    progress = Progress(records)
    over = job is not None and job.ended and not _written_later(records[-1].t, job.ended_s)
    now = progress.status(None if over else time.time())
    if over and now.phase not in OVER:
        # Its driver had no time to say so: it was killed, or lost with its machine.
        now = replace(now, phase="interrupted", samples_per_s=None, remaining_s=None)
    for line in status_lines(now, read_report(folder).findings):
        console.print(line, markup=False, soft_wrap=True)
    return now.phase


def _written_later(record_s: float, ended_s: float | None) -> bool:
    """True: another driver has taken the run up since the job ended."""
    return ended_s is not None and record_s > ended_s + RESUMED_AFTER_S


def _show_job(job: str, address: str, console: "Console", parts: Parts) -> bool:
    import os

    from raybench.driver.job import client_at, describe, log_end
    from raybench.errors import LedgerError, StorageError

    looks_like_a_path = "/" in job or job.startswith(".")
    if looks_like_a_path:
        raise LedgerError(f"{job} is no folder. A run folder is what `raybench run` printed as its results.")
    client = client_at(address, os.environ)
    found = describe(client, job)
    console.print(found.words, markup=False, soft_wrap=True)
    try:
        _show_run_of(found, console, address, parts)
    except (LedgerError, StorageError) as error:
        console.print(f"{error.message} The end of its log:", markup=False, soft_wrap=True)
        console.print("\n".join(log_end(client, job, LOG_LINES)), markup=False, soft_wrap=True)
    return found.ended


def _show_run_of(job: "JobStanding", console: "Console", address: str, parts: Parts) -> None:
    """Show the run folder of a job. Raises LedgerError, StorageError where it cannot be read from here."""
    import shlex

    from raybench.driver.folder import ledger_alone
    from raybench.driver.store import is_url
    from raybench.errors import StorageError

    folder = job.run_folder
    if folder is None or not (is_url(folder) or _may_be_folder(folder)):
        raise StorageError(f"its run folder{f' {folder}' if folder else ''} cannot be read from here.")
    with ledger_alone(folder, parts) as there:
        phase = _show_folder(there, console, job)
    if phase == "interrupted":
        again = shlex.join(["raybench", "submit", "CONFIG", "--address", address, "--resume", folder])
        console.print(f"finish what is missing with: {again}", markup=False, soft_wrap=True)
