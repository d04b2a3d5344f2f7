"""A run folder on object storage: parts that join, rows before what names them, one writer, nothing lost at a kill."""

import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from ledger_builder import config, measurement, plan

from raybench.driver import store as storage
from raybench.driver.folder import ledger_alone
from raybench.driver.store import PARTS, WRITER, Mirror, Store, is_url
from raybench.errors import LedgerError, StorageError
from raybench.ledger.bodies import Decision, PlanBody, RunBody
from raybench.ledger.journal import LEDGER, REQUESTS, Journal, read
from raybench.records import PerfUnit

URL = "memory://bucket/run"


@pytest.fixture
def store() -> Iterator[Store]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield Store(URL)
    files.store.clear()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def journal(spool: Path) -> Iterator[Journal]:
    made = Journal.create(spool)
    body = RunBody(
        run_id="r", session=0, config=config(), config_digest="c", raybench_version="0", ray_version="2",
        python_version="3", cluster="local", command=("raybench",),
    )  # fmt: skip
    made.append("run", body)
    made.append("plan", PlanBody(digest="p", plan=plan(config())))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LEASE_S", 0.05)


def say(journal: Journal, reason: str) -> None:
    journal.append("decision", Decision(what="end", reason=reason))


def silent(line: str) -> None:
    raise AssertionError(line)


def mirror(store: Store, spool: Path) -> Mirror:
    """One that copies only when it is told to."""
    return Mirror(store, spool, silent, flush_s=3600)


def test_parts_join_to_the_very_ledger_and_are_named_after_their_first_record(
    store: Store, spool: Path, journal: Journal, tmp_path: Path
) -> None:
    copied = mirror(store, spool)
    copied.flush()
    say(journal, "one")
    say(journal, "two")
    copied.flush()
    copied.flush()
    say(journal, "three")
    copied.close()
    assert store.names(PARTS) == ["0000000000.jsonl", "0000000002.jsonl", "0000000004.jsonl"]
    store.fetch(tmp_path / "again")
    assert (tmp_path / "again" / LEDGER).read_bytes() == (spool / LEDGER).read_bytes()
    assert len(read(tmp_path / "again")) == 5
    assert store.get(WRITER) is None


def test_a_half_written_line_stays_behind_until_it_is_whole(store: Store, spool: Path, journal: Journal) -> None:
    copied = mirror(store, spool)
    whole = (spool / LEDGER).read_bytes()
    with (spool / LEDGER).open("ab") as file:
        file.write(b'{"half":')
    copied.flush()
    assert store.ledger() == whole


def test_rows_go_up_before_the_part_that_names_them(
    store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = mirror(store, spool)
    journal.write_rows("key", b"rows")
    say(journal, "names them")
    put: list[str] = []
    monkeypatch.setattr(store, "put", lambda name, data: put.append(name))
    copied.flush()
    assert put == [WRITER, f"{REQUESTS}/key.parquet", f"{PARTS}/0000000000.jsonl"]


def done(journal: Journal, rows: bytes) -> None:
    """A unit has ended, as the driver writes it."""
    digest = journal.write_rows("key", rows)
    unit = next(unit for unit in plan(config()).units if isinstance(unit, PerfUnit))
    body = measurement(unit).model_copy(update={"rows_sha256": digest})
    journal.append("unit_done", body, key="key", attempt=1)


def test_a_unit_that_ends_while_rows_go_up_is_named_with_its_rows(
    store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = mirror(store, spool)
    journal.write_rows("early", b"rows")
    put = store.put

    def slow(name: str, data: bytes) -> None:
        put(name, data)
        if name == f"{REQUESTS}/early.parquet":
            done(journal, b"late rows")

    monkeypatch.setattr(store, "put", slow)
    copied.flush()
    assert b"unit_done" not in store.ledger(), "its rows are not there yet"
    copied.flush()
    assert b"unit_done" in store.ledger()
    assert store.get(f"{REQUESTS}/key.parquet") == b"late rows"


def test_rows_that_no_record_names_are_written_over_by_those_of_the_next_attempt(
    store: Store, spool: Path, journal: Journal, tmp_path: Path
) -> None:
    copied = mirror(store, spool)
    copied.flush()
    # The machine is lost after the rows went up and before the part that names them did.
    store.put(f"{REQUESTS}/key.parquet", b"attempt one")
    other = tmp_path / "other machine"
    second = Mirror(store, other, lambda _: None, flush_s=3600)
    resumed, _ = Journal.resume(other)
    done(resumed, b"attempt two")
    second.close()
    resumed.close()
    assert store.ledger() == (other / LEDGER).read_bytes()
    assert store.get(f"{REQUESTS}/key.parquet") == b"attempt two"
    # What a record names is not sent once more.
    sent: list[str] = []
    put = store.put
    store.put = lambda name, data: (sent.append(name), put(name, data))[1]  # type: ignore[method-assign]
    mirror(store, tmp_path / "third").close()
    assert sent == [WRITER, WRITER]


def test_a_spool_of_another_history_keeps_none_of_its_rows(
    store: Store, spool: Path, journal: Journal, tmp_path: Path
) -> None:
    done(journal, b"true")
    mirror(store, spool).close()
    stale = tmp_path / "stale"
    (stale / REQUESTS).mkdir(parents=True)
    (stale / LEDGER).write_bytes(b"something else\n")
    (stale / REQUESTS / "key.parquet").write_bytes(b"stale")
    store.fetch(stale)
    assert (stale / REQUESTS / "key.parquet").read_bytes() == b"true"


def test_what_is_said_to_matter_goes_up_at_once_and_the_rest_in_seconds(
    store: Store, spool: Path, journal: Journal
) -> None:
    copied = mirror(store, spool)
    gone_up = threading.Event()
    put = store.put

    def watched(name: str, data: bytes) -> None:
        put(name, data)
        if name.startswith(PARTS):
            gone_up.set()

    store.put = watched  # type: ignore[method-assign]
    copied.wake()
    assert gone_up.wait(30)
    copied.close()


def test_a_resumed_run_goes_on_in_a_new_part(store: Store, spool: Path, journal: Journal, tmp_path: Path) -> None:
    first = mirror(store, spool)
    say(journal, "one")
    first.close()
    other = tmp_path / "other machine"
    second = mirror(store, other)
    resumed, records = Journal.resume(other)
    assert len(records) == 3
    say(resumed, "two")
    second.close()
    resumed.close()
    assert store.names(PARTS) == ["0000000000.jsonl", "0000000003.jsonl"]
    assert store.ledger() == (other / LEDGER).read_bytes()


def test_the_spool_of_a_killed_driver_holds_what_had_not_gone_up(
    store: Store, spool: Path, journal: Journal, tmp_path: Path
) -> None:
    mirror(store, spool).flush()
    say(journal, "never went up")
    longer = (spool / LEDGER).read_bytes()
    store.fetch(spool)
    assert (spool / LEDGER).read_bytes() == longer
    # The mark of the dead one is not renewed, so that the store can be taken.
    said: list[str] = []
    Mirror(store, spool, said.append, flush_s=3600).close()
    assert said == [f"another raybench has left its mark in {URL}; looking for 0 s"]
    assert store.ledger() == longer


def test_a_spool_that_is_another_history_gives_way_to_the_store(
    store: Store, spool: Path, journal: Journal, tmp_path: Path
) -> None:
    mirror(store, spool).close()
    wanted = (spool / LEDGER).read_bytes()
    stale = tmp_path / "stale"
    shutil.copytree(spool, stale)
    (stale / LEDGER).write_bytes(b"something else\n")
    store.fetch(stale)
    assert (stale / LEDGER).read_bytes() == wanted


def test_two_writers_never_write(store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mirror(store, spool)
    monkeypatch.setattr(storage.time, "sleep", lambda _: first.flush())
    with pytest.raises(LedgerError, match="is being written by another raybench"):
        Mirror(store, spool, lambda _: None, flush_s=3600)
    # One that was taken for dead and wakes up again must not write over its heir.
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    heir = Mirror(store, spool, lambda _: None, flush_s=3600)
    with pytest.raises(LedgerError, match="has taken memory://bucket/run over"):
        first.flush()
    heir.close()


def test_who_looks_again_reads_new_parts_only(
    store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = mirror(store, spool)
    journal.write_rows("key", b"rows")
    for reason in ("one", "two", "three"):
        copied.flush()
        say(journal, reason)
    read_now: list[str] = []
    get = Store.get

    def reading(self: Store, name: str) -> bytes | None:
        read_now.append(name)
        return get(self, name)

    monkeypatch.setattr(Store, "get", reading)
    parts: dict[str, bytes] = {}
    with ledger_alone(URL, parts) as folder:
        assert len(read(folder)) == 4
        assert [path.name for path in folder.iterdir()] == [LEDGER], "no rows"
    assert read_now == ["ledger/0000000000.jsonl", "ledger/0000000002.jsonl", "ledger/0000000003.jsonl"]
    copied.close()
    read_now.clear()
    with ledger_alone(URL, parts) as folder:
        assert (folder / LEDGER).read_bytes() == (spool / LEDGER).read_bytes()
    assert read_now == ["ledger/0000000003.jsonl", "ledger/0000000004.jsonl"], "the last one seen may have grown"


def test_a_missing_part_is_seen(store: Store, spool: Path, journal: Journal) -> None:
    copied = mirror(store, spool)
    copied.flush()
    say(journal, "one")
    copied.flush()
    say(journal, "two")
    copied.close()
    store.remove(f"{PARTS}/0000000002.jsonl")
    with pytest.raises(LedgerError, match="lines were lost"):
        store.ledger()
    store.remove(f"{PARTS}/0000000003.jsonl")
    assert len(store.ledger().splitlines()) == 2, "what ends early is an earlier state"


def test_a_store_that_takes_nothing_is_told_once_and_loses_nothing(
    store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    told = threading.Event()

    def hear(line: str) -> None:
        said.append(line)
        told.set()

    copied = Mirror(store, spool, hear, flush_s=0.01)

    def refuse(name: str, data: bytes) -> None:
        raise OSError("slow down")

    put = store.put
    monkeypatch.setattr(store, "put", refuse)
    assert told.wait(30)
    with pytest.raises(StorageError, match=rf"slow down.* Everything lies in .* --resume {URL}"):
        copied.close()
    assert len(said) == 1 and "does not take anything (slow down); kept in" in said[0]
    monkeypatch.setattr(store, "put", put)
    copied.close()
    assert store.ledger() == (spool / LEDGER).read_bytes()


def test_a_new_run_needs_an_empty_place_that_can_be_written(
    store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check_new()
    mirror(store, spool).close()
    with pytest.raises(LedgerError, match="already holds a ledger"):
        store.check_new()
    with pytest.raises(LedgerError, match="holds no ledger"):
        Store("memory://bucket/other").ledger()

    def refuse(name: str, data: bytes) -> None:
        raise PermissionError("Access Denied")

    other = Store("memory://bucket/other")
    monkeypatch.setattr(other, "put", refuse)
    with pytest.raises(StorageError, match="cannot write to memory://bucket/other: Access Denied"):
        other.check_new()


def test_errors_that_only_the_library_of_a_store_knows_are_told_as_any_other(
    store: Store, spool: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndpointConnectionError(Exception):
        """As botocore's: an Exception, and nothing else."""

    told: queue.Queue[str] = queue.Queue()
    copied = Mirror(store, spool, told.put, flush_s=0.01)
    copied.flush()
    there = fsspec.filesystem("memory")

    def refuse(*_: object, **__: object) -> None:
        raise EndpointConnectionError("no route")

    with monkeypatch.context() as broken:
        for name in ("pipe_file", "cat_file", "ls", "rm_file"):
            broken.setattr(there, name, refuse)
        assert "does not take anything (EndpointConnectionError: no route); kept in" in told.get(timeout=30)
        with pytest.raises(StorageError, match=r"cannot read .*no route"):
            store.ledger()
        with pytest.raises(StorageError, match=r"cannot read .*no route"):
            store.fetch(spool)
        with pytest.raises(StorageError, match=r"cannot write to .*no route"):
            store.check_new()
        with pytest.raises(StorageError, match=r"cannot write to .*no route"):
            Mirror(store, spool, told.put)
    say(journal, "while it was away")
    copied.close()
    assert store.ledger() == (spool / LEDGER).read_bytes()
    assert told.empty()


def test_only_urls_are_stores_and_unknown_ones_say_what_is_missing() -> None:
    assert is_url("s3://bucket/run") and is_url(URL)
    assert not is_url("/shared/run") and not is_url("runs/x:y")
    with pytest.raises(StorageError, match="Install what fsspec needs"):
        Store("nonsense://bucket")


def test_a_store_on_a_disk_works_alike(spool: Path, journal: Journal, tmp_path: Path) -> None:
    there = Store(f"file://{tmp_path}/there/run")
    there.check_new()
    copied = mirror(there, spool)
    (spool / "report.md").write_text("report")
    copied.close(("report.md", "missing.json"))
    assert there.ledger() == (spool / LEDGER).read_bytes()
    assert (tmp_path / "there" / "run" / "report.md").read_text() == "report"
