"""The run folder: where it is, and whether it can be written."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from raybench.driver.store import Mirror, Store, is_url
from raybench.engine.cache import cache_root
from raybench.errors import ConfigError, LedgerError, StorageError
from raybench.ledger.journal import LEDGER
from raybench.locks import lock_fault, try_lock
from raybench.records.base import content_hash
from raybench.report.write import GRADES, JSON, MARKDOWN

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the environment of a submitted job's driver."""

REPORTS = (MARKDOWN, JSON, GRADES)
"""Files that are made from the ledger, and made again by `raybench report`."""

PROBE_BYTES = 65536
"""A run needs at least that; an empty file may be made on a file system that is full."""


def in_ray_job() -> bool:
    """True in a driver that `ray job submit` started."""
    return JOB_VARIABLE in os.environ


def outlives_a_job(folder: str) -> bool:
    """False for a folder that a job would look for in its copy of the working folder."""
    return is_url(folder) or Path(folder).is_absolute()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run is written."""

    path: Path
    """On a local disk: the run folder itself, or the spool of one on object storage."""
    name: str
    """As the user knows it."""
    mirror: Mirror | None = None
    """Copies the spool to the store; the owner closes it."""

    def close(self) -> None:
        """Bring a store up to date, reports last. Raises StorageError."""
        if self.mirror is not None:
            self.mirror.close(REPORTS)


def new_folder(folder: str, say: Callable[[str], None]) -> RunFolder:
    """An empty run folder that can be written. Raises LedgerError, StorageError."""
    if not is_url(folder):
        check_writable(Path(folder))
        return RunFolder(Path(folder), folder)
    store = Store(folder)
    store.check_new()
    spool = spool_of(folder)
    for number in count(1):
        aside = spool.with_name(f"{spool.name}.{number}")
        if not spool.exists():
            break
        if not aside.exists():
            # Of a run whose store was emptied since, or never took anything: not ours to delete.
            spool.rename(aside)
    check_writable(spool)
    return RunFolder(spool, store.url, Mirror(store, spool, say))


def old_folder(folder: str, command: str, say: Callable[[str], None]) -> RunFolder:
    """A run folder to go on in. Raises ConfigError, LedgerError, StorageError."""
    if not is_url(folder):
        check_resumable(Path(folder), command)
        return RunFolder(Path(folder), folder)
    store = Store(folder)
    store.ledger()
    spool = spool_of(folder)
    return RunFolder(spool, store.url, Mirror(store, spool, say))


@contextmanager
def readable(folder: str, *, put_back: bool = False) -> Iterator[Path]:
    """A run folder to read from; of one on object storage, a copy. Raises LedgerError, StorageError.

    `put_back`: reports that are written into the copy go to the store when all is done.
    """
    if not is_url(folder):
        yield Path(folder)
        return
    store = Store(folder)
    with TemporaryDirectory(prefix="raybench-") as name:
        copy = Path(name)
        store.fetch(copy, REPORTS)
        yield copy
        if put_back:
            try:
                store.put_files(copy, REPORTS)
            except OSError as error:
                raise StorageError(f"cannot write to {store.url}: {error}") from error


@contextmanager
def ledger_alone(folder: str, known: dict[str, bytes] | None = None) -> Iterator[Path]:
    """A run folder of which only the ledger is read: of one on object storage, a copy without the rows.

    `known`: what earlier calls for the same folder got, as in `Store.ledger`. Raises LedgerError, StorageError.
    """
    if not is_url(folder):
        yield Path(folder)
        return
    ledger = Store(folder).ledger(known)
    with TemporaryDirectory(prefix="raybench-") as name:
        try:
            (Path(name) / LEDGER).write_bytes(ledger)
        except OSError as error:
            raise StorageError(f"cannot keep a copy of {folder} in {name}: {error.strerror}.") from error
        yield Path(name)


def spool_of(url: str) -> Path:
    """Local folder of a run on object storage: the same for the same URL, so that a resumed run finds it again."""
    plain = url.rstrip("/")
    return cache_root() / "spool" / f"{plain.rpartition('/')[2]}-{content_hash(plain, 8)}"


def choose(out: str | None, name: str, stamp: str, command: str) -> str:
    """The run folder: `out` itself, or `runs/NAME-STAMP`. Raises ConfigError for a folder that a job would lose."""
    if in_ray_job() and (out is None or not outlives_a_job(out)):
        what = "no --out was given" if out is None else f"--out {out} is relative"
        raise ConfigError(
            f"{what}, but this is a Ray job: its working folder is a copy that vanishes with the job. Give an absolute "
            f"folder that outlives it, such as a shared mount: {command} --out /absolute/folder/{name}"
        )
    return out if out is not None else str(Path("runs") / f"{name}-{stamp}")


def check_resumable(folder: Path, command: str) -> None:
    """Raise ConfigError for a folder that a job would look for in its copy of the working folder."""
    if in_ray_job() and not folder.is_absolute():
        raise ConfigError(
            f"--resume {folder} is relative, but this is a Ray job: its working folder is a copy. Give the absolute "
            f"folder of the run: {command} --resume /absolute/folder/{folder.name}"
        )


def check_writable(folder: Path) -> None:
    """Make the folder and try to write into it, before anything is started.

    Raises StorageError, and LedgerError for a folder that holds a run already.
    """
    probe = folder / ".raybench-probe"
    try:
        if (folder / LEDGER).exists():
            raise LedgerError(
                f"{folder} already holds a ledger. Finish it with --resume {folder}, or give another --out for a new "
                "run."
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as file:
                file.write(b"x" * PROBE_BYTES)
                try_lock(file.fileno())  # the journal holds one
        finally:
            probe.unlink(missing_ok=True)
    except FileExistsError as error:
        raise StorageError(f"{folder} is a file, not a folder. Give another --out.") from error
    except OSError as error:
        raise StorageError(f"cannot write the run folder {folder}: {lock_fault(error)}. Give another --out.") from error
