"""`raybench status` of a job: what it shows while there is no ledger, without the store, and after a kill."""

from pathlib import Path

import pytest
from driver.test_job import Details, Server
from ledger_builder import LedgerBuilder, config, whole_ledger
from typer.testing import CliRunner

from raybench.cli import app
from raybench.driver import job
from raybench.driver.store import WRITER, Store

HEAD = "http://127.0.0.1:8265"


def shown(monkeypatch: pytest.MonkeyPatch, folder: str | None, details: Details) -> tuple[int, str]:
    """Exit code and words of `raybench status JOB` for a job with that run folder."""
    details.metadata = {} if folder is None else {"run_folder": folder}
    monkeypatch.setattr(job, "client_at", lambda *_: Server(log="first\nwaiting for 2 machines\n", end=details))
    done = CliRunner().invoke(app, ["status", "raybench-x-1", "--address", HEAD], catch_exceptions=False)
    return done.exit_code, done.output


def unfinished() -> LedgerBuilder:
    """A run in its midst."""
    builder = LedgerBuilder(config())
    builder.session()
    builder.planned()
    builder.node("alpha", 0)
    return builder


@pytest.mark.parametrize("writer", [True, False])
def test_a_job_whose_store_holds_no_ledger_yet_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: bool
) -> None:
    store = Store(f"file://{tmp_path}/bucket/run")
    if writer:
        store.put(WRITER, b"{}")
    code, words = shown(monkeypatch, store.url, Details("RUNNING"))
    assert (code, "waiting for 2 machines" in words) == (0, True), words
    assert ("no run has begun in" in words) == writer
    assert ("it is no run folder" in words) == (not writer)


def test_a_store_that_cannot_be_opened_from_here_leaves_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    code, words = shown(monkeypatch, "nosuch://bucket/run", Details("RUNNING"))
    assert code == 0
    assert "nosuch://bucket/run cannot be opened" in words and "waiting for 2 machines" in words


def test_a_folder_that_is_not_here_and_an_empty_one_leave_the_log_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, start in (
        (f"{tmp_path}/none", f"its run folder {tmp_path}/none cannot be read from here."),
        (str(tmp_path), f"no run has begun in {tmp_path} yet"),
        (None, "its run folder cannot be read from here."),
    ):
        code, words = shown(monkeypatch, folder, Details("RUNNING"))
        assert (code, words.splitlines()[2].startswith(start)) == (0, True), words
        assert words.endswith("waiting for 2 machines\n")


def test_a_run_folder_that_waits_is_looked_at_again_until_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def begin(pause_s: float) -> None:
        looks.append(pause_s)
        whole_ledger().write(tmp_path)

    monkeypatch.setattr("time.sleep", begin)
    done = CliRunner().invoke(app, ["status", str(tmp_path), "--watch"], catch_exceptions=False)
    assert (done.exit_code, len(looks)) == (0, 1)
    assert done.output.startswith(f"no run has begun in {tmp_path} yet") and "study (study-1): ended" in done.output


def test_a_watch_of_a_store_gets_no_rows_and_no_part_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (whole_ledger().write(tmp_path / "run") / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    store = Store(f"file://{tmp_path}/bucket/run")
    store.put("ledger/0000000000.jsonl", b"".join(lines[:4]))
    store.put("ledger/0000000004.jsonl", b"".join(lines[4:8]))
    store.put("requests/a.parquet", b"rows")
    got: list[str] = []
    get = Store.get

    def reading(self: Store, name: str) -> bytes | None:
        got.append(name)
        return get(self, name)

    monkeypatch.setattr(Store, "get", reading)
    monkeypatch.setattr("time.sleep", lambda _: store.put("ledger/0000000008.jsonl", b"".join(lines[8:])))
    done = CliRunner().invoke(app, ["status", store.url, "--watch"], catch_exceptions=False)
    assert (done.exit_code, "study (study-1): ended" in done.output) == (0, True), done.output
    assert sorted(name.partition(".")[0][-2:] for name in got) == ["00", "04", "04", "08"]


def test_a_killed_drivers_run_is_interrupted_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = unfinished()
    builder.write(tmp_path)
    last_ms = int(builder.records[-1].t * 1000)
    code, words = shown(monkeypatch, str(tmp_path), Details("FAILED", -9, end_time=last_ms + 2000))
    assert (code, "study (study-1): interrupted, " in words, " left" in words) == (0, True, False), words
    again = f"raybench submit CONFIG --address {HEAD} --resume {tmp_path}"
    assert words.endswith(f"finish what is missing with: {again}\n")


def test_a_run_that_another_job_has_taken_up_is_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = unfinished()
    builder.write(tmp_path)
    earlier_ms = int((builder.records[-1].t - 3600) * 1000)
    _, words = shown(monkeypatch, str(tmp_path), Details("FAILED", -9, end_time=earlier_ms))
    assert "study (study-1): running, " in words and "finish what is missing" not in words


def test_a_whole_run_needs_no_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_ledger().write(tmp_path)
    _, words = shown(monkeypatch, str(tmp_path), Details("SUCCEEDED", 0))
    assert "study (study-1): ended, " in words and "finish what is missing" not in words
