"""The cache folder of a machine and its locks: environments and models are made once, whoever asks first."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from raybench.engine.base import Progress
from raybench.errors import StorageError
from raybench.locks import NO_LOCKS, lock_fault, try_lock

POLL_S = 0.2
REPORT_EVERY_S = 10.0


class NoLocks(StorageError):
    """The file system of a cache knows no locks."""


def cache_root(env: Mapping[str, str] | None = None) -> Path:
    """`$RAYBENCH_CACHE`, else `$XDG_CACHE_HOME/raybench`, else `~/.cache/raybench`."""
    source = os.environ if env is None else env
    if source.get("RAYBENCH_CACHE"):
        return Path(source["RAYBENCH_CACHE"]).expanduser().absolute()
    base = source.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raybench"


@contextmanager
def locked(path: Path, what: str, progress: Progress) -> Iterator[int]:
    """Hold the lock file `path` alone; yields its descriptor. Raises StorageError where it cannot be made,
    NoLocks where the file system knows none.

    A process that inherits the descriptor keeps the lock: the guardian of a killed raybench's pip keeps the next one
    out until nothing of pip is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"The cache folder {path.parent} cannot be used ({error.strerror}). "
            "Set RAYBENCH_CACHE to a folder that you can write to."
        ) from error
    try:
        try:
            _wait(descriptor, what, progress)
        except OSError as error:
            kind = NoLocks if error.errno in NO_LOCKS else StorageError
            raise kind(
                f"{path} cannot be locked: {lock_fault(error)}. Set RAYBENCH_CACHE to a folder on another file system."
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(descriptor: int, what: str, progress: Progress) -> None:
    began = time.monotonic()
    reported = began - REPORT_EVERY_S
    while not try_lock(descriptor):
        if time.monotonic() - reported >= REPORT_EVERY_S:
            reported = time.monotonic()
            progress(f"waiting for another process that makes {what} ({reported - began:.0f} s)")
        time.sleep(POLL_S)


def folder_mib(folder: Path) -> float:
    """Size of everything under `folder` in MiB; what vanishes meanwhile counts nothing."""
    total = 0
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total / 2**20
