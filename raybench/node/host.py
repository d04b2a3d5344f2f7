"""The lock of a host: a second raybench on the same machine waits for a measurement instead of spoiling it."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from raybench.errors import NodeLost

PATIENCE_S = 3600.0


@contextmanager
def host_lock(*, alone: bool, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the host: `alone` for a perf unit, shared for evals and engine starts. Raises NodeLost after an hour."""
    path = Path(tempfile.gettempdir()) / "raybench-host.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    deadline = time.monotonic() + PATIENCE_S
    told = False
    try:
        while not _try(descriptor, mode):
            if not told:
                progress("waiting: another raybench measures on this host")
                told = True
            if time.monotonic() > deadline:
                raise NodeLost("another raybench has held this host for an hour; end it, then use --resume")
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
