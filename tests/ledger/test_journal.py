"""The journal: append, torn lines, foreign files, a second writer, a full disk."""

import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from raybench.errors import LedgerError, NotBegun, StorageError
from raybench.ledger import journal as journal_module
from raybench.ledger.journal import LEDGER, Journal, read


def started(folder: Path) -> Journal:
    journal = Journal.create(folder, now=lambda: 1.5)
    journal.append("run", {"x": 1})
    return journal


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    journal = started(tmp_path / "r")
    journal.append("unit_started", {}, key="k", attempt=1, node="n0", launch="n0.0")
    journal.close()
    records = read(tmp_path / "r")
    assert [(r.seq, r.kind, r.key, r.attempt, r.node, r.launch, r.t) for r in records] == [
        (0, "run", None, None, None, None, 1.5),
        (1, "unit_started", "k", 1, "n0", "n0.0", 1.5),
    ]


def test_a_torn_last_line_is_skipped_when_read_and_cut_off_when_resumed(tmp_path: Path) -> None:
    journal = started(tmp_path / "r")
    journal.append("decision", {"what": "x"})
    journal.close()
    path = tmp_path / "r" / LEDGER
    whole = path.read_bytes()
    for cut in range(1, len(whole) - whole.index(b"\n")):
        path.write_bytes(whole[:-cut])
        assert len(read(tmp_path / "r")) == 1
        again, records = Journal.resume(tmp_path / "r")
        assert len(records) == 1
        again.append("decision", {"what": "y"})
        again.close()
        assert [r.seq for r in read(tmp_path / "r")] == [0, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no whole record"),
        (b"hello\n", "line 1: not JSON"),
        (b"\xff\xfe\n", "line 1: not JSON"),
        (b"[1]\n", "line 1: no ledger record"),
        (b'{"v":99,"seq":0,"t":1,"kind":"run","body":{}}\n', "ledger version 99"),
        (b'{"v":1,"seq":0,"t":1,"kind":"sum","body":{}}\n', "line 1: damaged record"),
        (b'{"v":1,"seq":0,"t":1,"kind":"plan","body":{}}\n', "does not start with a run record"),
        (
            b'{"v":1,"seq":0,"t":1,"kind":"run","body":{}}\n{"v":1,"seq":2,"t":1,"kind":"plan","body":{}}\n',
            "line 2: record 2 where 1 was expected",
        ),
    ],
)
def test_anything_foreign_is_refused_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / LEDGER).write_bytes(content)
    with pytest.raises(LedgerError) as error:
        read(tmp_path)
    assert said in error.value.message
    assert error.value.exit_code == 13


def _changed(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"n":1', b'"n":2'), *lines[2:]]


def _taken_out(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2].replace(b'"seq":2', b'"seq":1'), lines[3].replace(b'"seq":3', b'"seq":2')]


def _doubled(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[3].replace(b'"seq":3', b'"seq":4')]


def _swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2].replace(b'"seq":2', b'"seq":1'), lines[1].replace(b'"seq":1', b'"seq":2'), lines[3]]


def _without_hash(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[3].rpartition(b',"chain"')[0] + b"}"]


@pytest.mark.parametrize("edit", [_changed, _taken_out, _doubled, _swapped, _without_hash])
def test_an_edit_by_hand_is_refused(tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    journal = started(tmp_path / "r")
    for n in (1, 2, 3):
        journal.append("decision", {"n": n})
    journal.close()
    path = tmp_path / "r" / LEDGER
    lines = path.read_bytes().splitlines()
    assert len(read(tmp_path / "r")) == len(lines) == 4
    path.write_bytes(b"".join(line + b"\n" for line in edit(lines)))
    for use in (read, Journal.resume):
        with pytest.raises(LedgerError, match="was changed, taken out or moved"):
            use(tmp_path / "r")


def test_a_ledger_without_hashes_is_read_and_gets_them_from_there_on(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(b'{"v":1,"seq":0,"t":1,"kind":"run","body":{}}\n')
    journal, _ = Journal.resume(tmp_path)
    journal.append("decision", {"n": 1})
    journal.append("decision", {"n": 2})
    journal.close()
    assert [record.chain is not None for record in read(tmp_path)] == [False, True, True]


def test_a_folder_without_a_ledger_is_no_run_folder_unless_a_run_waits_there(tmp_path: Path) -> None:
    (tmp_path / "publish.log").touch()
    with pytest.raises(NotBegun, match=r"no run has begun in .* yet"):
        read(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LedgerError, match="no run folder of raybench"):
        read(tmp_path)
    with pytest.raises(LedgerError, match="is no folder"):
        read(tmp_path / "missing")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    journal = started(tmp_path / "r")
    with pytest.raises(LedgerError, match="written by another raybench"):
        Journal.resume(tmp_path / "r")
    journal.close()
    Journal.resume(tmp_path / "r")[0].close()


def refuse(number: int) -> Callable[..., NoReturn]:
    """Stands in for a system call; root, who runs some tests, may do everything."""

    def call(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 300)
    with pytest.raises(StorageError, match=re.escape(f"cannot read {long / LEDGER}: File name too long. Read it as")):
        read(long)
    started(tmp_path / "r").close()
    for call in ("stat", "read_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, call, refuse(errno.EACCES))
            for look in (read, Journal.resume):
                with pytest.raises(StorageError, match=r"cannot read .*/r/ledger\.jsonl: Permission denied") as error:
                    look(tmp_path / "r")
                assert error.value.exit_code == 26
    Journal.resume(tmp_path / "r")[0].close()  # those before have let its lock go


@pytest.mark.parametrize("call", ["open", "ftruncate", "fsync"])
def test_a_ledger_that_cannot_be_repaired_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    started(tmp_path / "r").close()
    path = tmp_path / "r" / LEDGER
    path.write_bytes(path.read_bytes() + b"{")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse(errno.EROFS))
        with pytest.raises(StorageError, match=r"cannot write .*/r/ledger\.jsonl: Read-only file system"):
            Journal.resume(tmp_path / "r")
    Journal.resume(tmp_path / "r")[0].close()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOLCK, "its file system knows no locks (No locks available)"),
        (errno.ENOSYS, "its file system knows no locks (Function not implemented)"),
        (errno.EOPNOTSUPP, "its file system knows no locks (Operation not supported)"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_file_system_without_locks_is_not_taken_for_another_raybench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    started(tmp_path / "r").close()
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse(number))
        for begin, folder in ((Journal.create, tmp_path / "new"), (Journal.resume, tmp_path / "r")):
            told = re.escape(f"{folder / LEDGER} cannot be locked: {words}. Give an --out on another file system.")
            with pytest.raises(StorageError, match=told):
                begin(folder)
    started(tmp_path / "new").close()
    assert len(read(tmp_path / "r")) == 1


def test_a_folder_with_a_ledger_is_not_started_anew(tmp_path: Path) -> None:
    started(tmp_path / "r").close()
    with pytest.raises(LedgerError, match="--resume"):
        Journal.create(tmp_path / "r")


def test_a_full_disk_keeps_what_was_written(tmp_path: Path) -> None:
    journal = started(tmp_path / "r")
    full = os.open("/dev/full", os.O_WRONLY)
    own, journal._descriptor = journal._descriptor, full  # stands in for a disk without space
    with pytest.raises(StorageError, match="No space left on device") as error:
        journal.append("decision", {"what": "x"})
    assert error.value.exit_code == 26
    journal.close()
    os.close(own)
    assert len(read(tmp_path / "r")) == 1


def test_rows_are_written_whole_with_their_hash(tmp_path: Path) -> None:
    journal = started(tmp_path / "r")
    digest = journal.write_rows("k", b"abc")
    journal.close()
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sorted(p.name for p in (tmp_path / "r" / "requests").iterdir()) == ["k.parquet"]


def test_a_disk_that_is_slow_to_sync_keeps_no_append_waiting_and_close_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, synced = threading.Event(), threading.Event()

    def sync(descriptor: int) -> None:
        assert slow.wait(60)
        synced.set()

    monkeypatch.setattr(journal_module.os, "fsync", sync)
    journal = Journal.create(tmp_path / "run")
    for number in range(50):
        journal.append("decision", {"what": "x", "reason": "y", "number": number})
    # All of it can be read, though nothing has been synced: the death of the driver would lose none of it.
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes().count(b"\n") == 50
    assert not synced.is_set()
    slow.set()
    journal.close()
    assert synced.is_set()


def test_one_sync_serves_many_records_and_a_flush_waits_for_no_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(journal_module.os, "fsync", synced.append)
    monkeypatch.setattr(journal_module, "SYNC_PAUSE_S", 3600.0)
    journal = Journal.create(tmp_path / "run")
    for _ in range(200):
        journal.append("decision", {"what": "x", "reason": "y"})
    journal.flush()
    journal.append("decision", {"what": "x", "reason": "y"})
    journal.close()
    assert 1 <= len(synced) <= 6


def test_what_a_sync_meets_is_told_with_the_next_record_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_module.os, "fsync", sync)
    journal = Journal.create(tmp_path / "run")
    journal.append("decision", {"what": "x", "reason": "y"})
    with pytest.raises(StorageError, match="No space left on device"):
        journal.flush()
    with pytest.raises(StorageError, match=r"make room, then finish\s+with --resume"):
        journal.append("decision", {"what": "x", "reason": "y"})
    with pytest.raises(StorageError, match="No space left"):
        journal.close()
    journal.close()


def test_rows_are_synced_before_the_record_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def sync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(journal_module.os, "fsync", sync)
    journal = Journal.create(tmp_path / "run")
    journal.write_rows("key", b"rows")
    journal.append("unit_done", {}, key="key", attempt=1)
    journal.close()
    assert order == ["key.parquet", "ledger.jsonl"]
