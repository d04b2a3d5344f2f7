"""The lock of a host: a second raybench on the same machine waits for a measurement instead of spoiling it."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from raybench.errors import NodeLost, RaybenchError

PATIENCE_S = 3600.0
POLL_S = 0.2


class Cancelled(RaybenchError):
    """The run is being ended; what was about to start was not started."""


@contextmanager
def host_lock(
    *, alone: bool, progress: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold the host: `alone` for a perf unit, shared for evals and engine starts.

    Raises NodeLost after an hour, Cancelled as soon as `cancelled` says so.
    """
    descriptor = _open(_path())
    mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    deadline = time.monotonic() + PATIENCE_S
    told = False
    try:
        while not _try(descriptor, mode):
            if not told:
                progress("waiting: another raybench measures on this host")
                told = True
            if cancelled():
                raise Cancelled("stopped by the user while it waited for the host")
            if time.monotonic() > deadline:
                raise NodeLost("another raybench has held this host for an hour; end it, then use --resume")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def host_is_measured() -> bool:
    """True while a perf unit of any raybench owns this host. Looks by holding the lock for the blink of an eye."""
    descriptor = _open(_path())
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _path() -> Path:
    return Path(tempfile.gettempdir()) / "raybench-host.lock"


def _open(path: Path) -> int:
    # Reading suffices for a lock, and is all that another user's file allows; Linux refuses O_CREAT on such a file in a
    # sticky folder (fs.protected_regular).
    if path.exists():
        return os.open(path, os.O_RDONLY)
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _try(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
