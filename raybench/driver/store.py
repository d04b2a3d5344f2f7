"""A run folder on object storage: the ledger in parts, what it names before it, one writer.

The driver writes its run folder on a local disk as always (the spool); a `Mirror` copies it to the store while it
grows. Objects cannot be appended to, so the ledger goes up in parts, each named after the first record in it; rows of a
unit go up before the part that names them. A part is whole or not there, so that what lies in the store is a ledger
without a torn tail at any time. What the store lacks when a driver dies is what was written in the last seconds, and
where the machine lives on, its spool holds that too.
"""

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from raybench.errors import LedgerError, NotBegun, StorageError
from raybench.ledger.journal import LEDGER, REQUESTS, parse

PARTS = "ledger"
WRITER = "writer.json"
LEASE_S = 30.0
"""A writer that has not renewed its mark for that long is gone. Watched on one clock: those of two machines differ."""
FLUSH_S = 5.0
CLOSE_TRIES = 3
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
"""Kinds of stores without folders: making one there makes a bucket of whatever name was mistyped."""


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever a store's library raises, as an OSError.

    fsspec hands errors of botocore, aiohttp and azure through as they are, and most of those are an `Exception` and
    nothing else: an endpoint that cannot be reached for a minute must not look like a fault of ours.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def is_url(folder: str) -> bool:
    """True for a folder on object storage."""
    return "://" in folder


def _state(path: Path) -> tuple[int, int]:
    """Tells a file from the one that replaces it."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class Store:
    """A folder that fsspec reaches. Reading and writing it raises OSError, whatever the store is."""

    def __init__(self, url: str) -> None:
        """Raises StorageError for a kind of URL that this environment cannot open."""
        self._has_folders = url.partition("://")[0] not in BUCKETS
        self.url = url.rstrip("/")
        try:
            self._files, self._root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"{url} cannot be opened: {error}. Install what fsspec needs for it (s3fs for s3://, gcsfs for gs://)."
            ) from error

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole."""
        path = self._path(name)
        with _as_os_error():
            if self._has_folders:
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, data)

    def get(self, name: str) -> bytes | None:
        """The object; None where there is none."""
        self._files.invalidate_cache()
        try:
            with _as_os_error():
                return bytes(self._files.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Names of the objects in a folder of it, sorted."""
        self._files.invalidate_cache()
        try:
            with _as_os_error():
                found: list[Any] = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with suppress(FileNotFoundError), _as_os_error():
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    # ----------------------------------------------------------------------------------------------------- run folders

    def check_new(self) -> None:
        """Try to write, before anything is started. Raises StorageError, LedgerError where a run lies there already."""
        try:
            if self.names(PARTS):
                raise LedgerError(
                    f"{self.url} already holds a ledger. Finish it with --resume {self.url}, or give another --out."
                )
            self.put(".raybench-probe", b"x")
            self.remove(".raybench-probe")
        except OSError as error:
            raise StorageError(f"cannot write to {self.url}: {error}. Give another --out.") from error

    def ledger(self, known: dict[str, bytes] | None = None) -> bytes:
        """All parts, joined. Raises StorageError; LedgerError where there are none or they do not join (NotBegun where
        a writer has not put any yet).

        `known` holds the parts that earlier calls got: they are not read again, and new ones are added.
        """
        known = {} if known is None else known
        try:
            parts = self.names(PARTS)
            held = {name: known.get(name) or self.get(f"{PARTS}/{name}") or b"" for name in parts}
            is_taken = not parts and self.get(WRITER) is not None
        except OSError as error:
            raise StorageError(f"cannot read {self.url}: {error}") from error
        if not parts and is_taken:
            raise NotBegun(
                f"no run has begun in {self.url} yet: its ledger is made once the machines are there. Look again later."
            )
        if not parts:
            raise LedgerError(f"{self.url} holds no ledger: it is no run folder of raybench.")
        joined = b"".join(held.values())
        records, _ = parse(joined, self.url)
        # The last one may be put again, longer: its writer may not have heard that it went up.
        known.update({name: held[name] for name in parts[:-1]})
        starts = [int(name.partition(".")[0]) for name in parts]
        if starts[0] != 0 or starts[-1] >= len(records):
            raise LedgerError(f"{self.url}: a part of the ledger is missing.")
        return joined

    def fetch(self, spool: Path, files: tuple[str, ...] = ()) -> None:
        """Make `spool` the run folder as the store has it, `files` included where there are any.

        Raises LedgerError, StorageError.
        A spool that goes on where the store ends (its driver was killed before the last part went up) is kept.
        """
        try:
            ledger = self.ledger()
            spool.mkdir(parents=True, exist_ok=True)
            local = spool / LEDGER
            goes_on = local.is_file() and local.read_bytes().startswith(ledger)
            if not goes_on:
                local.write_bytes(ledger)
            (spool / REQUESTS).mkdir(exist_ok=True)
            for name in self.names(REQUESTS):
                is_there = goes_on and (spool / REQUESTS / name).is_file()
                if not is_there and (rows := self.get(f"{REQUESTS}/{name}")) is not None:
                    (spool / REQUESTS / name).write_bytes(rows)
            for name in files:
                if (content := self.get(name)) is not None:
                    (spool / name).write_bytes(content)
        except OSError as error:
            raise StorageError(f"cannot read {self.url}: {error}") from error

    def put_files(self, folder: Path, names: tuple[str, ...]) -> None:
        """Write what there is of `names` in a local folder."""
        for name in names:
            if (folder / name).is_file():
                self.put(name, (folder / name).read_bytes())


class Mirror:
    """Copies a spool to its store, in a thread, until `close`. The only writer of the store, as long as it lives."""

    def __init__(self, store: Store, spool: Path, say: Callable[[str], None], flush_s: float = FLUSH_S) -> None:
        """Takes the store; waits for `LEASE_S` where another writer has left its mark.

        Raises LedgerError where that one still writes, StorageError.
        """
        self._store = store
        self._spool = spool
        self._say = say
        self._flush_s = flush_s
        self._token = secrets.token_hex(8)
        self._num_beats = 0
        self._position = 0
        self._num_records = 0
        self._rows: dict[str, tuple[int, int]] = {}
        """State of each file of rows when it went up."""
        self._wake = threading.Event()
        self._ended = False
        self._told = False
        try:
            self._take()
            self._meet()
        except OSError as error:
            raise StorageError(f"cannot write to {store.url}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="raybench-mirror", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written that should go up now."""
        self._wake.set()

    def stop(self) -> None:
        """Copy nothing more and keep the store, as a killed driver does."""
        self._ended = True
        self._wake.set()
        self._thread.join()

    def close(self, files: tuple[str, ...] = ()) -> None:
        """Bring everything up, `files` of the spool last, and let the store go. Raises LedgerError, StorageError."""
        self.stop()
        for left in reversed(range(CLOSE_TRIES)):
            try:
                self.flush()
                self._store.put_files(self._spool, files)
                self._store.remove(WRITER)
                return
            except OSError as error:
                if not left:
                    raise StorageError(
                        f"{self._store.url} could not be brought up to date: {error}. Everything lies in {self._spool} "
                        f"on this machine; finish with --resume {self._store.url} from here."
                    ) from error
                time.sleep(self._flush_s)

    def flush(self) -> None:
        """Bring up what is new. Raises what the store raises; LedgerError when another writer has taken it over."""
        self._beat()
        # Before the rows are listed: those of every unit that it names are on the disk by now.
        part = self._fresh()
        for path in sorted((self._spool / REQUESTS).glob("*.parquet")):
            # A unit that is measured again writes its rows under the same name.
            state = _state(path)
            if self._rows.get(path.name) != state:
                self._store.put(f"{REQUESTS}/{path.name}", path.read_bytes())
                self._rows[path.name] = state
        if part:
            self._store.put(f"{PARTS}/{self._num_records:010d}.jsonl", part)
            self._position += len(part)
            self._num_records += part.count(b"\n")

    def _fresh(self) -> bytes:
        """Whole lines of the ledger that the store does not have; none before the run has begun."""
        try:
            with (self._spool / LEDGER).open("rb") as file:
                file.seek(self._position)
                fresh = file.read()
        except FileNotFoundError:
            return b""
        return fresh[: fresh.rfind(b"\n") + 1]

    def _run(self) -> None:
        while True:
            self._wake.wait(self._flush_s)
            self._wake.clear()
            if self._ended:
                return
            try:
                self.flush()
                self._told = False
            except LedgerError as error:
                self._say(f"storage: {error.message}")
                return
            except OSError as error:
                if not self._told:
                    self._say(f"storage: {self._store.url} does not take anything ({error}); kept in {self._spool}")
                    self._told = True

    # -------------------------------------------------------------------------------------------------- the one writer

    def _take(self) -> None:
        before = self._store.get(WRITER)
        if before is not None:
            self._say(f"another raybench has left its mark in {self._store.url}; looking for {LEASE_S:.0f} s")
            time.sleep(LEASE_S)
            if self._store.get(WRITER) not in (before, None):
                raise LedgerError(f"{self._store.url} is being written by another raybench. Wait for it, or end it.")
        self._beat(first=True)

    def _meet(self) -> None:
        """Bring the spool to where the store is. After the mark: nobody else adds to it from now on."""
        if not self._store.names(PARTS):
            return
        self._store.fetch(self._spool)
        held = self._store.ledger()
        records, self._position = parse(held, self._store.url)
        self._num_records = len(records)
        # Rows that no record names were of an attempt that ended with its driver: they are to be written over.
        named = {f"{r.key}.parquet": r.body.get("rows_sha256") for r in records if r.kind == "unit_done"}
        for path in (self._spool / REQUESTS).glob("*.parquet"):
            state = _state(path)
            if hashlib.sha256(path.read_bytes()).hexdigest() == named.get(path.name):
                self._rows[path.name] = state

    def _beat(self, *, first: bool = False) -> None:
        """Renew our mark, and look whether it is still ours."""
        if not first:
            mark = self._store.get(WRITER)
            if mark is None or self._token.encode() not in mark:
                raise LedgerError(
                    f"another raybench has taken {self._store.url} over; what this one writes stays in {self._spool}"
                )
        self._num_beats += 1
        self._store.put(WRITER, json.dumps({"token": self._token, "beat": self._num_beats}).encode())
