"""Long child processes that end by themselves (pip, a training, a download), with progress while they run.

Each has a guardian, as servers have: whatever kills the process that asked for it, nothing of the task goes on without
its time limit, or loads a host that is then timed.
"""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raybench.engine.base import Progress
from raybench.engine.guarded import GuardedServer
from raybench.errors import StorageError

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
    """Descriptors (locks) that are held until nothing of the task is left, even if this process is killed."""


def run_task(task: Task, progress: Progress) -> tuple[int, str]:
    """Run it; returns (exit code, its output). Exit code 124 = past the limit.

    Neither the child nor anything below it outlives this call, or this process. Raises StorageError, EngineStartError.
    """
    task.log.touch()
    start_of_output = task.log.stat().st_size
    try:
        folder = Path(tempfile.mkdtemp(prefix="raybench-task-"))
    except OSError as error:
        raise StorageError(f"no folder for temporary files can be made: {error}") from error
    child = GuardedServer(folder, task.log, Path.cwd(), task.keep_open)
    try:
        child.start(task.argv, task.env, grace_s=0)
        code = _wait(child, task, progress)
    finally:
        child.stop(grace_s=0)
        shutil.rmtree(folder, ignore_errors=True)
    with task.log.open("rb") as log:
        log.seek(start_of_output)
        return code, log.read().decode(errors="replace")


def _wait(child: GuardedServer, task: Task, progress: Progress) -> int:
    began = time.monotonic()
    reported = began
    while (end := child.end()) is None:
        now = time.monotonic()
        if now - began > task.timeout_s:
            return TIMED_OUT
        if now - reported >= REPORT_EVERY_S:
            reported = now
            size = f", {task.mib():,.0f} MiB" if task.mib is not None else ""
            progress(f"{task.label} ({now - began:.0f} s{size})")
        time.sleep(POLL_S)
    return -signal.SIGKILL if end.exit_status is None else end.exit_status
