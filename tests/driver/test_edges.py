"""The run folder, the cluster's address, exit codes and lines: the driver's edges without Ray."""

import asyncio
import errno
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_builder import LedgerBuilder, check_units
from ledger_builder import config as ledger_config
from ray._private.utils import check_version_info
from rich.console import Console

from raybench.driver import cluster
from raybench.driver.aside import begin
from raybench.driver.cluster import connect, version_complaint
from raybench.driver.finish import EXIT_BY_CAUSE, infrastructure_exit
from raybench.driver.folder import JOB_VARIABLE, check_resumable, check_writable, choose
from raybench.driver.screen import Screen
from raybench.errors import ClusterError, ConfigError, LedgerError, StorageError
from raybench.records import EvalUnit, Failure, PerfUnit, Plan
from raybench.report.progress import Progress, RunStatus


def test_the_run_folder_is_out_itself_or_named_after_the_run() -> None:
    assert choose("some/where", "name", "STAMP", "cmd") == "some/where"
    assert choose(None, "name", "STAMP", "cmd") == "runs/name-STAMP"


@pytest.mark.parametrize(("out", "words"), [(None, "no --out was given"), ("rel/out", "--out rel/out is relative")])
def test_a_job_must_write_where_it_outlives_the_job(
    out: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    with pytest.raises(ConfigError, match=words) as error:
        choose(out, "name", "STAMP", "python -m raybench run c.yaml")
    assert error.value.message.endswith("python -m raybench run c.yaml --out /absolute/folder/name")
    assert choose("/abs", "name", "STAMP", "cmd") == "/abs"
    assert choose("s3://bucket/run", "name", "STAMP", "cmd") == "s3://bucket/run"
    with pytest.raises(ConfigError, match="--resume rel is relative"):
        check_resumable(Path("rel"), "cmd")
    check_resumable(Path("/abs"), "cmd")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, words in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "Not a directory"),
        (Path("/proc/raybench-run"), "No such file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(StorageError, match=words):
            check_writable(folder)
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_without_locks_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match=r"cannot write the run folder .*: its file system knows no locks \(Func"):
        check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_holds_a_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").touch()
    with pytest.raises(LedgerError, match="already holds a ledger"):
        check_writable(tmp_path)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("http://127.0.0.1:8265", "no Ray cluster answers|no address"),
        ("somewhere", "is no address"),
        ("127.0.0.1:99999", "is no address"),
        ("127.0.0.1:1", "Connection refused"),
        ("no-such-host.invalid:6379", "no Ray cluster answers at no-such-host.invalid:6379"),
    ],
)
def test_a_wrong_address_is_one_clear_message(address: str, words: str) -> None:
    with pytest.raises(ClusterError, match=words):
        connect(address, 1)


WANTED = ("3.12.3", "2.60.0", "0.1.0")


@pytest.mark.parametrize(
    ("found", "row"),
    [
        (("3.11.9", "2.60.0", "0.1.0"), "  10.0.0.2: Python 3.11.9, Ray 2.60.0, raybench 0.1.0"),
        (("3.12.3", "2.59.0", "0.1.0"), "  10.0.0.2: Python 3.12.3, Ray 2.59.0, raybench 0.1.0"),
        (("3.12.3", "2.60.0", None), "  10.0.0.2: Python 3.12.3, Ray 2.60.0, raybench missing"),
        ("the worker died", "  10.0.0.2: does not run a task: the worker died"),
    ],
)
def test_machines_with_other_versions_are_named_together_with_the_remedy(
    found: tuple[str, str, str | None] | str, row: str
) -> None:
    message = version_complaint(WANTED, [("10.0.0.1", WANTED), ("10.0.0.2", found), ("10.0.0.2", WANTED)])
    assert message is not None
    first, *rest = message.splitlines()
    assert first == "these machines cannot work with the driver:"
    assert rest[:2] == [row, "  driver: Python 3.12.3, Ray 2.60.0, raybench 0.1.0"]
    assert "setup_commands in cluster.yaml" in rest[2]


@pytest.mark.parametrize(("ray_there", "python_there"), [("2.1.0", "3.12.9"), ("2.60.0", "3.1.4")])
def test_a_cluster_of_other_versions_is_told_as_that(
    ray_there: str, python_there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        check_version_info({"ray_version": ray_there, "python_version": python_there}, "node 10.0.0.9")

    monkeypatch.setattr(cluster.ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ClusterError) as error:
            connect(address, 1)
    start = (
        f"the cluster at {address} runs other versions than this driver: Ray {ray_there}, Python {python_there} there;"
    )
    assert error.value.message.startswith(start)
    assert "raybench submit CONFIG" in error.value.message and "check the address" not in error.value.message.lower()


def test_a_patch_release_of_python_may_differ_where_ray_lets_it_in() -> None:
    assert version_complaint(WANTED, [("10.0.0.1", ("3.12.9", "2.60.0", "0.1.0"))]) is None


def test_auto_is_the_cluster_that_ray_address_names_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"127.0.0.1:1 \(Connection refused\)"):
        connect("auto", 1)


def test_auto_takes_no_notice_of_a_cluster_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster._address_of_auto() == "local"
    (tmp_path / "ray").mkdir()
    hint = tmp_path / "ray" / "ray_current_cluster"
    hint.write_text("127.0.0.1:1\n")
    assert cluster._address_of_auto() == "local"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        hint.write_text(address)
        assert cluster._address_of_auto() == address


@pytest.fixture
def sigterm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handler and the variables as they were, after a cluster that is none was joined."""
    for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_with_its_exit_code_once_a_cluster_is_there(
    monkeypatch: pytest.MonkeyPatch, sigterm: None
) -> None:
    monkeypatch.setattr(
        cluster.ray, "init", lambda **_: signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    )
    assert connect("local", 1).private
    with pytest.raises(SystemExit) as error:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert error.value.code == 143


@pytest.mark.parametrize(("code", "exit_code"), [(int(signal.SIGTERM), 143), (1, 1)])
def test_sigterm_while_ray_connects_ends_with_its_exit_code_too(
    monkeypatch: pytest.MonkeyPatch, sigterm: None, code: int, exit_code: int
) -> None:
    monkeypatch.setattr(cluster.ray, "init", lambda **_: sys.exit(code))
    with pytest.raises(SystemExit) as error:
        connect("local", 1)
    assert error.value.code == exit_code


def test_a_thread_that_connects_leaves_the_handlers_alone(monkeypatch: pytest.MonkeyPatch, sigterm: None) -> None:
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(connect, "local", 1).result().private
    assert signal.getsignal(signal.SIGTERM) is before


def test_every_cause_has_its_exit_code() -> None:
    assert EXIT_BY_CAUSE == {
        "engine_start": 22, "engine_died": 23, "timeout": 23, "node_lost": 24, "client": 25, "bug": 1, "stopped": None,
        "preflight": None, "withdrawn": None,
    }  # fmt: skip


def screen(now_s: Callable[[], float] = lambda: 0.0, **options: object) -> tuple[Screen, io.StringIO]:
    text = io.StringIO()
    return Screen(Console(file=text, width=40, **options), 3, 1, now_s), text  # type: ignore[arg-type]


def running() -> RunStatus:
    builder = LedgerBuilder(ledger_config())
    builder.session()
    builder.planned()
    builder.node("alpha", 0)
    return Progress(builder.records).status()


def test_a_job_log_gets_a_line_about_the_whole_run_once_a_minute() -> None:
    clock = [0.0]
    shown, text = screen(lambda: clock[-1])
    for t in (1.0, 59.0, 60.0, 61.0, 119.0, 121.0):
        clock.append(t)
        shown.show(running())
    assert text.getvalue().splitlines() == [
        "01:00 status: 0/16 units, 0/80 samples; n0 idle 0 s",
        "02:01 status: 0/16 units, 0/80 samples; n0 idle 0 s",
    ]


class Gone(io.StringIO):
    """A log on a full disk, a terminal that was closed, a pipe without a reader."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_screen_that_cannot_be_written_ends_nothing(is_terminal: bool) -> None:
    shown = Screen(Console(file=Gone(), width=40, force_terminal=is_terminal), 3, 1, lambda: 0.0)
    shown.line("something happened")
    shown.counts({"done": 2, "running": 1, "pending": 0, "given_up": 0, "dropped": 0})


def test_a_work_beside_the_loop_that_breaks_is_heard_of_and_one_that_is_cancelled_is_not() -> None:
    async def body() -> list[BaseException]:
        async def breaks() -> None:
            raise KeyError("of ours")

        heard: list[BaseException] = []
        tasks = begin([breaks(), asyncio.sleep(3600)], heard.append)
        await asyncio.wait(tasks[:1])
        tasks[1].cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        return heard

    (error,) = asyncio.run(body())
    assert isinstance(error, KeyError)


def test_a_job_log_gets_lines_as_they_are_however_long_and_a_count_of_every_unit_that_ends() -> None:
    shown, text = screen()
    shown.line("n0: [red]batch[/red] :warning: " + "x" * 60)
    for done in (1, 2, 2, 3):
        shown.counts({"done": done, "running": 1, "pending": 2, "given_up": 0, "dropped": 0})
    assert text.getvalue().splitlines() == [
        "00:00 n0: [red]batch[/red] :warning: " + "x" * 60,
        "00:00 2/5 units done, 1 running",
        "00:00 3/6 units done, 1 running",
    ]


def test_the_bar_stands_above_a_fleet_larger_than_the_terminal() -> None:
    text = io.StringIO()
    console = Console(file=text, width=80, height=24, force_terminal=True, color_system=None)
    shown = Screen(console, 3, 1, lambda: 0.0)
    status = running()
    with shown:
        shown.show(replace(status, nodes=status.nodes * 40))
        shown.counts({"pending": 1, "running": 1, "done": 1, "dropped": 0, "given_up": 0})
        shown._live.refresh()
    last = text.getvalue().rpartition("units (1 running)")[2]
    lines = last.partition("\x1b[2K")[0].splitlines()
    assert "1/3" in lines[0] and lines[1].startswith("0/16 units"), lines
    assert any("20 more nodes: 20 idle" in line for line in lines), lines


def test_a_terminal_gets_a_live_view_of_the_nodes_below_the_bar() -> None:
    shown, text = screen(force_terminal=True)
    with shown:
        shown.show(running())
        shown.line("something happened")
    assert "0/16 units, 0/80 samples" in text.getvalue() and "n0" in text.getvalue()
    assert "something happened" in text.getvalue() and "status:" not in text.getvalue()


def test_a_job_log_gets_plain_timed_lines_and_one_line_a_unit() -> None:
    shown, text = screen()
    with shown:
        shown.line("n0 [joined] " + "x" * 60)
        shown.counts({"pending": 1, "running": 1, "done": 1, "dropped": 0, "given_up": 0})
        shown.counts({"pending": 0, "running": 1, "done": 2, "dropped": 0, "given_up": 0})
        shown.counts({"pending": 0, "running": 1, "done": 2, "dropped": 0, "given_up": 0})
        shown.counts({"pending": 0, "running": 0, "done": 2, "dropped": 0, "given_up": 1})
    assert text.getvalue().splitlines() == ["00:00 n0 [joined] " + "x" * 60, "00:00 2/3 units done, 1 running"]


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    shown, text = screen(force_terminal=True)
    with shown:
        shown.counts({"pending": 0, "running": 0, "done": 2, "dropped": 0, "given_up": 1})
    assert "1 given up" in text.getvalue()
    assert "units done" not in text.getvalue()


def test_the_first_unit_that_was_given_up_and_is_missing_names_the_exit_code() -> None:
    builder = LedgerBuilder(ledger_config())
    builder.session()
    builder.planned()
    perf = [unit for unit in builder.plan.units if isinstance(unit, PerfUnit)]
    builder.failed(perf[0].key, Failure(cause="client", message="tried again"))
    assert infrastructure_exit(builder.view()) is None, "it was not given up"
    builder.failed(perf[0].key, Failure(cause="engine_died", message="gone", given_up=True), attempt=2)
    builder.failed(perf[1].key, Failure(cause="node_lost", message="gone", given_up=True))
    assert infrastructure_exit(builder.view()) == 23
    builder.perf_done(perf[0], "n0.0", attempt=3)
    assert infrastructure_exit(builder.view()) == 24, "the first was done by a later session"


def test_samples_that_a_check_stopped_and_checks_that_were_given_up_are_no_fault_of_the_infrastructure() -> None:
    builder = LedgerBuilder(ledger_config())
    canary = next(unit for unit in check_units("alpha") if unit.check == "canary")
    builder.plan = Plan(units=(canary, *builder.plan.units))
    builder.session()
    builder.planned()
    builder.failed(canary.key, Failure(cause="client", message="no client", given_up=True))
    blocks = [unit for unit in builder.plan.units if isinstance(unit, EvalUnit)]
    builder.failed(blocks[0].key, Failure(cause="preflight", message="another template", given_up=True))
    assert infrastructure_exit(builder.view()) is None
    builder.failed(blocks[1].key, Failure(cause="node_lost", message="gone", given_up=True))
    assert infrastructure_exit(builder.view()) == 24
