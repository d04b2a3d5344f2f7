"""What the user sees while it runs: a live line in a terminal, plain timed lines in a job's log."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Screen:
    """Prints lines above a progress bar in a terminal, and lines with the elapsed time elsewhere."""

    def __init__(self, console: Console, num_units: int, num_done: int) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("units", total=num_units, completed=num_done)
        self._total = num_units
        self._done = num_done

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """Print one event."""
        elapsed = int(time.monotonic() - self._started)
        stamp = f"{elapsed // 60:02d}:{elapsed % 60:02d}"
        self._console.print(f"{stamp} {text}", highlight=False, markup=False, soft_wrap=True)

    def counts(self, counts: Mapping[str, int]) -> None:
        """Take the dispatcher's counts in; a job's log gets a line whenever another unit has ended."""
        done = counts["done"]
        running, given_up = counts["running"], counts["given_up"]
        description = f"units ({running} running" + (f", {given_up} given up)" if given_up else ")")
        self._progress.update(self._task, completed=done + counts["dropped"], description=description)
        if not self._console.is_terminal and done > self._done:
            self.line(f"{done}/{self._total} units done, {running} running")
        self._done = done
