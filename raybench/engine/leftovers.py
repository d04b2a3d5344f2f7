"""Processes of earlier runs, found by the mark that every engine process carries in its environment."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "RAYBENCH_RUN"
"""Environment variable that holds the run's id. Names are no help: SGLang's children rename themselves."""
SWEEP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class LeftOver:
    """One marked process."""

    pid: int
    run: str
    """Id of the run that started it."""
    name: str
    """Command name by the kernel."""


def left_overs(run_id: str | None = None) -> list[LeftOver]:
    """Marked processes of this user, but for this one; of one run, or of all."""
    found: list[LeftOver] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid():
                continue
            run = _mark((folder / "environ").read_bytes())
            if run is not None and run_id in (None, run):
                found.append(LeftOver(int(folder.name), run, (folder / "comm").read_text().strip()))
    return found


def sweep(run_id: str) -> list[LeftOver]:
    """Kill every marked process of one run; returns those that were there. Waits until they are gone (10 s at most)."""
    first = left_overs(run_id)
    limit = time.monotonic() + SWEEP_LIMIT_S
    remaining = first
    while remaining and time.monotonic() < limit:
        for process in remaining:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)
        remaining = left_overs(run_id)
    return first


def _mark(environ: bytes) -> str | None:
    for entry in environ.split(b"\0"):
        if entry.startswith(MARK.encode() + b"="):
            return entry.split(b"=", 1)[1].decode(errors="replace")
    return None
