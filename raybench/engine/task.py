"""Long child processes that end by themselves (pip, a training, a download), with progress while they run."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raybench import process
from raybench.engine.base import Progress

POLL_S = 0.1
REPORT_EVERY_S = 10.0
TIMED_OUT = 124


@dataclass(frozen=True, slots=True)
class Task:
    """One child process to run to its end."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    """Its output is appended here."""
    label: str
    """What it does, for the progress lines."""
    timeout_s: float
    mib: Callable[[], float] | None = None
    """Says how many MiB there are so far; None = not shown."""
    keep_open: Sequence[int] = ()
    """Descriptors that the child holds as long as it lives (locks)."""


def run_task(task: Task, progress: Progress) -> tuple[int, str]:
    """Run it; returns (exit code, its output). Exit code 124 = past the limit. The child never outlives this call."""
    with task.log.open("ab") as log:
        log.flush()
        start_of_output = log.tell()
        child = process.start(task.argv, env=task.env, log=log, pass_fds=tuple(task.keep_open), new_session=True)
    try:
        code = _wait(child, task, progress)
    finally:
        _end(child)
    with task.log.open("rb") as log:
        log.seek(start_of_output)
        return code, log.read().decode(errors="replace")


def _wait(child: process.Child, task: Task, progress: Progress) -> int:
    began = time.monotonic()
    reported = began
    while (code := child.poll()) is None:
        now = time.monotonic()
        if now - began > task.timeout_s:
            return TIMED_OUT
        if now - reported >= REPORT_EVERY_S:
            reported = now
            size = f", {task.mib():,.0f} MiB" if task.mib is not None else ""
            progress(f"{task.label} ({now - began:.0f} s{size})")
        time.sleep(POLL_S)
    return code


def _end(child: process.Child) -> None:
    """Kill the child's session, if it still runs, and reap it."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
