"""What the user sees while it runs: a live view in a terminal, plain timed lines in a job's log."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from raybench.report.progress import RunStatus
from raybench.report.progress_page import LiveView, progress_line

LOG_EVERY_S = 60.0
"""Between two lines about the whole run in a job's log."""
BAR_LINES = 2
"""Lines of a terminal that the bar needs, and the cursor below it all."""


class Screen:
    """Prints lines above a live view in a terminal, and lines with the elapsed time elsewhere."""

    def __init__(
        self, console: Console, num_units: int, num_done: int, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._now_s = now_s
        self._started_s = self._logged_s = now_s()
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("units", total=num_units, completed=num_done)
        self._total = num_units
        self._done = num_done
        self._view: RenderableType | None = None
        self._live = Live(get_renderable=self._renderable, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """Print one event. A terminal that was closed, a reader that is gone or a full disk end no measuring."""
        elapsed = int(self._now_s() - self._started_s)
        line = f"{elapsed // 60:02d}:{elapsed % 60:02d} {text}"
        with suppress(OSError):
            if self._console.is_terminal:
                self._console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)
                return
            # A log gets thousands of lines, and laying one out takes longer than all that the driver does for a unit.
            self._console.file.write(f"{line}\n")
            self._console.file.flush()

    def counts(self, counts: Mapping[str, int]) -> None:
        """Take the dispatcher's counts in; a job's log gets a line whenever another unit has ended."""
        done = counts["done"]
        running, given_up = counts["running"], counts["given_up"]
        # Searches ask for units that nobody counted before.
        self._total = max(self._total, sum(counts.values()))
        if self._console.is_terminal:
            description = f"units ({running} running" + (f", {given_up} given up)" if given_up else ")")
            completed = done + counts["dropped"]
            self._progress.update(self._task, completed=completed, total=self._total, description=description)
        elif done > self._done:
            self.line(f"{done}/{self._total} units done, {running} running")
        self._done = done

    def show(self, status: RunStatus) -> None:
        """Show the whole run as it is now; a job's log gets a line once a minute."""
        if self._console.is_terminal:
            self._view = LiveView(status, num_taken=BAR_LINES)
        elif self._now_s() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = self._now_s()
            self.line(f"status: {progress_line(status)}")

    def _renderable(self) -> RenderableType:
        # The bar first: what does not fit is cut from below.
        return self._progress if self._view is None else Group(self._progress, self._view)
