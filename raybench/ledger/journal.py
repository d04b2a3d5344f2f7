"""Append, read and repair `ledger.jsonl`, the only format on disk that counts.

Invariant: one writer (held by a lock on the file), one record a line, `seq` without a hole. A line that was torn by the
death of the writer is cut off when the ledger is opened for appending and skipped when it is only read; anything else
that does not fit is refused, because a ledger that is half understood is worse than none. Every line ends in a hash of
itself and of the hash before it: a number that was changed by hand, a line that was taken out, doubled or moved shows.
That guards against accidents, not against somebody who makes the hashes anew.

A record is the kernel's when `append` returns: the death of the driver cannot undo it. That it is on the disk, so that
a power cut cannot either, is seen to by a thread of its own: a disk that is slow to sync must not keep a fleet waiting.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError

from raybench.errors import LedgerError, NotBegun, RaybenchError, StorageError
from raybench.locks import lock_fault, try_lock
from raybench.records import LEDGER_VERSION, Kind, LedgerRecord

LEDGER = "ledger.jsonl"
REQUESTS = "requests"
BEFORE_A_RUN = (".raybench", "publish.")
"""Beginnings of names that a run folder may hold before its ledger: a probe, the publisher's log and lock."""

SYNC_PAUSE_S = 0.02
"""Between two syncs while records come: a write that meets one waits for the file's lock."""

_CHAIN = b',"chain":"'
_TEMPLATE = LedgerRecord(seq=0, t=0.0, kind="run", body={})


class Journal:
    """The writer. Owns the file and its lock until `close`."""

    def __init__(
        self, folder: Path, records: tuple[LedgerRecord, ...], descriptor: int, now: Callable[[], float]
    ) -> None:
        self.folder = folder
        self._descriptor = descriptor
        self._next_seq = len(records)
        self._chain = records[-1].chain if records else None
        self._now = now
        self._syncing = _Syncing(descriptor)

    @classmethod
    def create(cls, folder: Path, now: Callable[[], float] = time.time) -> "Journal":
        """Start a new ledger in `folder` (made if missing). Raises StorageError; LedgerError if one is there."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / REQUESTS).mkdir(exist_ok=True)
            descriptor = os.open(folder / LEDGER, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError as error:
            if (folder / LEDGER).exists():
                raise LedgerError(
                    f"{folder} already holds a ledger. Finish it with --resume {folder}, or give another --out."
                ) from error
            raise StorageError(f"cannot make the run folder {folder}: {error}. Give another --out.") from error
        except OSError as error:
            raise StorageError(f"cannot make the run folder {folder}: {error.strerror}. Give another --out.") from error
        try:
            _lock(descriptor, folder)
        except RaybenchError as error:
            os.close(descriptor)
            if isinstance(error, StorageError):
                # Empty, it would only be in the way of the next try.
                (folder / LEDGER).unlink(missing_ok=True)
            raise
        return cls(folder, (), descriptor, now)

    @classmethod
    def resume(cls, folder: Path, now: Callable[[], float] = time.time) -> tuple["Journal", tuple[LedgerRecord, ...]]:
        """Open an existing ledger for appending, cutting a torn last line off. Raises LedgerError, StorageError."""
        path = ledger_path(folder)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}.") from error
        try:
            _lock(descriptor, folder)
            records = _repaired(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(folder, records, descriptor, now), records

    def append(
        self, kind: Kind, body: BaseModel | Mapping[str, JsonValue], *, key: str | None = None,
        attempt: int | None = None, node: str | None = None, launch: str | None = None,
    ) -> LedgerRecord:  # fmt: skip
        """Write one record and return it; all kinds but `sample` are synced to the disk soon, see `flush`.

        Raises StorageError, also for what an earlier record met on its way to the disk.
        """
        content = body.model_dump(mode="json") if isinstance(body, BaseModel) else dict(body)
        # Its fields are right by construction, and the body is what a model has just dumped. A copy costs a quarter of
        # what validation does.
        record = _TEMPLATE.model_copy(update={
            "seq": self._next_seq, "t": self._now(), "kind": kind, "key": key, "attempt": attempt, "node": node,
            "launch": launch, "body": content,
        })  # fmt: skip
        line = record.model_dump_json(exclude_none=True).encode()
        chain = _hash(self._chain, line)
        try:
            self._syncing.check()
            _write_all(self._descriptor, line[:-1] + _CHAIN + chain.encode() + b'"}\n')
            if kind != "sample":
                self._syncing.ask()
        except OSError as error:
            raise self._unwritable(error) from error
        self._next_seq += 1
        self._chain = chain
        return record

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write {self.folder / LEDGER}: {error.strerror}. What was written is kept: make room, then finish "
            f"with --resume {self.folder}"
        )

    def flush(self) -> None:
        """Wait until everything but samples is on the disk. Raises StorageError."""
        try:
            self._syncing.wait()
        except OSError as error:
            raise self._unwritable(error) from error

    def write_rows(self, key: str, data: bytes) -> str:
        """Write the per-request rows of a unit whole or not at all; returns their SHA-256.

        They are synced to the disk before any record that follows.
        """
        path = self.folder / REQUESTS / f"{key}.parquet"
        part = path.with_suffix(".part")
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}.") from error
        self._syncing.before(path)
        return hashlib.sha256(data).hexdigest()

    def close(self) -> None:
        """Let go of the file and its lock, when all is on the disk. Idempotent. Raises StorageError."""
        if self._descriptor >= 0:
            try:
                self.flush()
            finally:
                self._syncing.end()
                os.close(self._descriptor)
                self._descriptor = -1


class _Syncing:
    """A thread that syncs the ledger: one sync serves all records that were written while the one before took its time.

    Started with the first record, so that a ledger that is only looked at has none.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._files: list[Path] = []
        self._asked = self._synced = 0
        self._hurry = threading.Event()
        """Set while somebody waits."""
        self._error: OSError | None = None
        self._ended = False

    def before(self, path: Path) -> None:
        """Sync this file before the next record."""
        with self._change:
            self._files.append(path)

    def ask(self) -> None:
        """Something was written."""
        with self._change:
            is_idle = self._asked == self._synced
            self._asked += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="raybench-ledger-sync", daemon=True)
                self._thread.start()
            if is_idle:
                self._change.notify_all()

    def check(self) -> None:
        """Raise what a sync has met."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until everything that was asked for is on the disk, or cannot come there. Raises OSError."""
        self._hurry.set()
        with self._change:
            self._change.wait_for(lambda: self._synced == self._asked or self._error is not None)
        self._hurry.clear()
        self.check()

    def end(self) -> None:
        """End the thread."""
        self._hurry.set()
        with self._change:
            self._ended = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ended or self._synced < self._asked)
                if self._ended:
                    return
                asked, files, self._files = self._asked, self._files, []
            error: OSError | None = None
            try:
                for path in files:
                    _sync_file(path)
                os.fsync(self._descriptor)
            except OSError as met:
                error = met
            with self._change:
                self._synced, self._error = asked, error
                self._change.notify_all()
                if error is not None:
                    return
            self._hurry.wait(SYNC_PAUSE_S)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ledger_path(folder: Path) -> Path:
    """Path of the ledger in a run folder. Raises LedgerError when there is none (NotBegun where there is nothing else
    either), StorageError where nobody can tell."""
    path = folder / LEDGER
    try:
        if not folder.is_dir():
            raise LedgerError(f"{folder} is no folder. A run folder is what `raybench run` printed as its results.")
        if not path.is_file():
            if all(found.name.startswith(BEFORE_A_RUN) for found in folder.iterdir()):
                raise NotBegun(
                    f"no run has begun in {folder} yet: it holds no {LEDGER}, which is made once the machines are "
                    f"there. Look again later, or start a run with --out {folder}."
                )
            raise LedgerError(f"{folder} holds no {LEDGER}: it is no run folder of raybench.")
    except OSError as error:
        raise _unreadable(path, error) from error
    return path


def read(folder: Path) -> tuple[LedgerRecord, ...]:
    """All whole records of a run folder, in order; a torn last line is left alone.

    Raises LedgerError, and StorageError for a folder that cannot be read.
    """
    path = ledger_path(folder)
    records, _ = parse(_bytes_of(path), path)
    return records


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot read {path}: {error.strerror}. Read it as a user who may, or from where it can be.")


def _repaired(descriptor: int, path: Path) -> tuple[LedgerRecord, ...]:
    """Records of a ledger that is ours to write, its torn last line cut off. Raises LedgerError, StorageError."""
    data = _bytes_of(path)
    records, num_whole_bytes = parse(data, path)
    try:
        if num_whole_bytes < len(data):
            os.ftruncate(descriptor, num_whole_bytes)
            os.fsync(descriptor)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}.") from error
    return records


def parse(data: bytes, path: Path | str) -> tuple[tuple[LedgerRecord, ...], int]:
    """Records of a ledger's bytes and the number of bytes that they take. Raises LedgerError for anything foreign."""
    records: list[LedgerRecord] = []
    position = 0
    before: str | None = None
    while (end := data.find(b"\n", position)) >= 0:
        record = _record(data[position:end], len(records), path)
        _check_chain(data[position:end], record, before, path)
        records.append(record)
        before = record.chain
        position = end + 1
    if not records:
        raise LedgerError(f"{path} holds no whole record. Start the run anew with another --out.")
    if records[0].kind != "run":
        raise LedgerError(f"{path} does not start with a run record: it is not a ledger of raybench.")
    return tuple(records), position


def _record(line: bytes, seq: int, path: Path | str) -> LedgerRecord:
    where = f"{path}, line {seq + 1}"
    try:
        content: JsonValue = json.loads(line)
    except ValueError as error:
        raise LedgerError(
            f"{where}: not JSON ({error}). The file was changed by something else than raybench."
        ) from error
    version = content.get("v") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise LedgerError(f"{where}: no ledger record. The file is not a ledger of raybench.")
    if version > LEDGER_VERSION:
        raise LedgerError(
            f"{where}: ledger version {version}; this raybench reads up to {LEDGER_VERSION}. Update raybench."
        )
    try:
        record = LedgerRecord.model_validate(content)
    except ValidationError as error:
        raise LedgerError(f"{where}: damaged record: {error.errors()[0]['msg']}.") from error
    if record.seq != seq:
        raise LedgerError(f"{where}: record {record.seq} where {seq} was expected: lines were lost or added.")
    return record


def _check_chain(line: bytes, record: LedgerRecord, before: str | None, path: Path | str) -> None:
    """Raises LedgerError where the hashes do not hold. A ledger that was started without them has none to check."""
    if record.chain is None and before is None:
        return
    if record.chain != _hash(before, line.rpartition(_CHAIN)[0] + b"}"):
        raise LedgerError(
            f"{path}, line {record.seq + 1}: this line or the one before it was changed, taken out or moved after it "
            "was written. Restore the file from a copy."
        )


def _hash(before: str | None, line: bytes) -> str:
    return hashlib.sha256((before or "").encode() + line).hexdigest()[:16]


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _lock(descriptor: int, folder: Path) -> None:
    try:
        is_ours = try_lock(descriptor)
    except OSError as error:
        raise StorageError(
            f"{folder / LEDGER} cannot be locked: {lock_fault(error)}. Give an --out on another file system."
        ) from error
    if not is_ours:
        raise LedgerError(f"{folder} is being written by another raybench. Wait for it, or end it first.")
