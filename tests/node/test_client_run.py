"""The client process from outside: it dies, hangs, is killed, and never outlives its starter."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulated_engines import running, timing

from raybench.client.job import BatchJob, ClientDone, MeasuredLine, WarmUpLine
from raybench.config.schema import FaultConfig
from raybench.engine.leftovers import left_overs
from raybench.node.clientrun import ClientRun
from raybench.records import OneBatchLoad, WarmUp


def job(url: str, timeout_s: float = 60) -> BatchJob:
    return BatchJob(
        url=url, api_key="secret-of-a-test", load=OneBatchLoad(batch_size=2, input_tokens=8, output_tokens=4),
        prompt_seed=1, vocab_tokens=1000, warm_up=WarmUp(max_passes=1), timeout_s=timeout_s,
    )  # fmt: skip


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "engine" not in path.parts]


def test_lines_come_in_order_and_nothing_stays_on_disk(tmp_path: Path) -> None:
    with running(tmp_path, timing()) as (engine, _):
        client = ClientRun(job(engine.url), tmp_path, 60, "run-of-a-test")
        modes = {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path) if path.name == "job.json"}
        lines = list(client.lines())
        client.close()
    assert [type(line) for line in lines] == [WarmUpLine, MeasuredLine, ClientDone]
    assert modes == {0o600}, "the job holds the engine's key"
    assert files(tmp_path) == []


def test_a_client_that_is_killed_ends_with_a_word_about_it(tmp_path: Path) -> None:
    with running(tmp_path, timing(FaultConfig(stall_s=3600))) as (engine, _):
        client = ClientRun(job(engine.url), tmp_path, None, "run-of-a-test")
        os.kill(client._child.pid, signal.SIGKILL)
        (line,) = client.lines()
        client.close()
    assert isinstance(line, ClientDone) and line.error is not None and "ended with code -9" in line.error


def test_a_client_past_its_limit_is_a_timeout(tmp_path: Path) -> None:
    with running(tmp_path, timing(FaultConfig(stall_s=3600))) as (engine, _):
        client = ClientRun(job(engine.url, timeout_s=3600), tmp_path, 1, "run-of-a-test")
        *_, line = client.lines()
        client.close()
    assert isinstance(line, ClientDone) and (line.error or "").startswith("timeout")
    assert client._child.poll() == -signal.SIGKILL


def test_a_client_that_breaks_shows_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uvloop.py").write_text("raise RuntimeError('a broken installation')")
    monkeypatch.syspath_prepend(str(tmp_path))
    client = ClientRun(job("http://127.0.0.1:9"), tmp_path, 60, "run-of-a-test")
    (line,) = client.lines()
    client.close()
    assert isinstance(line, ClientDone) and "a broken installation" in (line.error or "")


STARTER = """
import sys, time
from pathlib import Path
from raybench.client.job import BatchJob
from raybench.node.clientrun import ClientRun
client = ClientRun(BatchJob.model_validate_json(sys.argv[1]), Path(sys.argv[2]), None, sys.argv[3])
print(client._child.pid, flush=True)
time.sleep(3600)
"""


def test_a_client_dies_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    run_id = f"client-test-{os.getpid()}"
    with running(tmp_path, timing(FaultConfig(stall_s=3600))) as (engine, _):
        words = [sys.executable, "-c", STARTER, job(engine.url, 3600).model_dump_json(), str(tmp_path), run_id]
        starter = subprocess.Popen(
            words, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        while b"raybench.client" not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3]:
            time.sleep(0.01)
        assert [left.pid for left in left_overs(run_id)] == [pid]
        starter.kill()
        starter.wait()
        starter.stdout.close()
        limit_s = time.monotonic() + 10
        while left_overs(run_id) and time.monotonic() < limit_s:
            time.sleep(0.02)
        assert left_overs(run_id) == []
