"""The lock of a host: a second raybench on the same machine waits for a measurement instead of spoiling it."""

import os
import pwd
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from raybench.errors import EngineRefused, NodeLost, RaybenchError
from raybench.locks import lock_fault, try_lock

PATIENCE_S = 3600.0
POLL_S = 0.2
TOLD_EVERY_S = 60.0
"""A wait is told so often: whoever watches for progress knows then that it is one."""
EVERYBODY_READS = 0o444


class Cancelled(RaybenchError):
    """The run is being ended; what was about to start was not started."""


@contextmanager
def host_lock(
    *, alone: bool, progress: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold the host: `alone` for a perf unit, shared for evals and engine starts.

    Raises NodeLost after an hour, Cancelled as soon as `cancelled` says so, EngineRefused where the lock's file cannot
    be opened or locked: the engine that waits for it cannot be started by another try.
    """
    descriptor = _open(_path())
    began = time.monotonic()
    num_told = 0
    try:
        while not _try(descriptor, alone=alone):
            waited_s = time.monotonic() - began
            if waited_s >= num_told * TOLD_EVERY_S:
                since = f", for {waited_s / 60:.0f} min so far" if num_told else ""
                progress(f"waiting: another raybench measures on this host{since}")
                num_told += 1
            if cancelled():
                raise Cancelled("stopped by the user while it waited for the host")
            if waited_s > PATIENCE_S:
                raise NodeLost("another raybench has held this host for an hour; end it, then use --resume")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def host_is_measured() -> bool:
    """True while a perf unit of any raybench owns this host. Looks by holding the lock for the blink of an eye.

    Raises EngineRefused where the lock's file cannot be opened or locked.
    """
    descriptor = _open(_path())
    try:
        return not _try(descriptor, alone=False)
    finally:
        os.close(descriptor)


def _path() -> Path:
    return Path(tempfile.gettempdir()) / "raybench-host.lock"


def _open(path: Path) -> int:
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise EngineRefused(_unopened(path, error)) from error
    about = os.fstat(descriptor)
    if about.st_uid == os.geteuid() and about.st_mode & EVERYBODY_READS != EVERYBODY_READS:
        # A umask of 077 would keep all other users out, for as long as the file lies there.
        os.fchmod(descriptor, 0o644)
    return descriptor


def _opened(path: Path) -> int:
    # Reading suffices for a lock, and is all that another user's file allows; Linux refuses O_CREAT on such a file in a
    # sticky folder (fs.protected_regular).
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        try:
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:  # somebody else made it meanwhile
            return os.open(path, os.O_RDONLY)


def _unopened(path: Path, error: OSError) -> str:
    what = f"the lock of this host, {path}, cannot be opened ({error.strerror})"
    try:
        owner_id = path.stat().st_uid
    except OSError:
        return f"{what}. Give raybench a folder for it that all users of this machine can write to: TMPDIR names it."
    try:
        owner = pwd.getpwuid(owner_id).pw_name
    except KeyError:
        owner = f"user {owner_id}"
    return f"{what}. It belongs to {owner}, who lets others in with: chmod 644 {path}"


def _try(descriptor: int, *, alone: bool) -> bool:
    try:
        return try_lock(descriptor, alone=alone)
    except OSError as error:
        raise EngineRefused(
            f"the lock of this host, {_path()}, cannot be taken: {lock_fault(error)}. Give raybench a folder for it on "
            "another file system: TMPDIR names it."
        ) from error
