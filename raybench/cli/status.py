"""`raybench status`: how far a run is, from its folder or through its job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raybench.cli.submit import ADDRESS, Address

if TYPE_CHECKING:
    from rich.console import Console

WATCH_EVERY_S = 5.0
LOG_LINES = 15
"""Last lines of a job's log that are shown where its run folder cannot be read from here."""


def status(
    run: Annotated[str, typer.Argument(metavar="RUN_DIR|JOB", help="Run folder, or id of a job.", show_default=False)],
    address: Address = ADDRESS,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every few seconds until the run ends.")] = False,
) -> None:
    """Print nodes, work, rates, an estimate of the rest, and the findings so far. Changes nothing."""
    import time

    from rich.console import Console

    console = Console(highlight=False)
    while not _show(run, address, console) and watch:
        time.sleep(WATCH_EVERY_S)
        console.clear()


def _show(run: str, address: str, console: "Console") -> bool:
    """Print it once; returns True when it has ended."""
    from raybench.driver.folder import readable
    from raybench.driver.store import is_url

    if is_url(run) or _may_be_folder(run):
        with readable(run) as folder:
            return _show_folder(folder, console, live=True)
    return _show_job(run, address, console)


def _may_be_folder(run: str) -> bool:
    try:
        return Path(run).is_dir()
    except OSError:
        return True  # reading it says what is wrong with it


def _holds_ledger(folder: str) -> bool:
    from raybench.ledger.journal import LEDGER

    try:
        return (Path(folder) / LEDGER).is_file()
    except OSError:
        return False


def _show_folder(folder: Path, console: "Console", *, live: bool) -> bool:
    """`live`: a run that has not ended is running now, so that durations go on."""
    import time

    from raybench.ledger.journal import read
    from raybench.report.progress import Progress
    from raybench.report.progress_page import status_lines
    from raybench.report.write import read_report

    records = read(folder)
    now = Progress(records).status(time.time() if live else None)
    for line in status_lines(now, read_report(folder).findings):
        console.print(line, markup=False, soft_wrap=True)
    return now.phase in ("ended", "interrupted")


def _show_job(job: str, address: str, console: "Console") -> bool:
    import os

    from raybench.driver.folder import readable
    from raybench.driver.job import client_at, describe, log_end
    from raybench.driver.store import is_url

    looks_like_a_path = "/" in job or job.startswith(".")
    if looks_like_a_path:
        from raybench.errors import LedgerError

        raise LedgerError(f"{job} is no folder. A run folder is what `raybench run` printed as its results.")
    client = client_at(address, os.environ)
    found = describe(client, job)
    console.print(found.words, markup=False, soft_wrap=True)
    folder = found.run_folder
    if folder is not None and (is_url(folder) or _holds_ledger(folder)):
        with readable(folder) as there:
            _show_folder(there, console, live=not found.ended)
    else:
        where = f"its run folder {folder}" if folder is not None else "its run folder"
        console.print(f"{where} cannot be read from here; the end of its log:", markup=False)
        console.print("\n".join(log_end(client, job, LOG_LINES)), markup=False, soft_wrap=True)
    return found.ended
