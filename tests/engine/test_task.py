import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from raybench.engine import task
from raybench.engine.task import TIMED_OUT, Task, run_task
from raybench.errors import StorageError
from raybench.process import child_environment


def make(tmp_path: Path, script: str, timeout_s: float = 30) -> Task:
    argv = (sys.executable, "-c", script)
    return Task(argv, child_environment({}), tmp_path / "log", "working", timeout_s, mib=lambda: 12.0)


WORKER = """
import os, sys
from pathlib import Path
from raybench.engine.task import Task, run_task
from raybench.process import child_environment
folder, script = Path(sys.argv[1]), sys.argv[2]
lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
import fcntl
fcntl.flock(lock, fcntl.LOCK_EX)
run_task(Task((sys.executable, "-c", script), child_environment({}), folder / "log", "", 600, keep_open=(lock,)), print)
"""
FAMILY = """
import os, subprocess, sys, time
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(os.getpid(), below.pid, flush=True)
time.sleep(60)
"""


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_nothing_of_a_task_outlives_a_worker_that_is_killed_and_its_lock_is_held_until_then(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), FAMILY], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    limit = time.monotonic() + 30
    while not (log := tmp_path / "log").exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < limit
        time.sleep(0.05)
    pids = [int(word) for word in log.read_text().split()]
    assert [runs(pid) for pid in pids] == [True, True]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    killed = time.monotonic()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert [pid for pid in pids if runs(pid)] == []
    assert time.monotonic() - killed < 10


def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    code, output = run_task(Task(("/no/such/python",), child_environment({}), tmp_path / "log", "", 30), print)
    assert (code, "cannot start /no/such/python" in output) == (127, True)


def test_a_task_runs_where_its_worker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_task(make(tmp_path, "import os; print(os.getcwd())"), print) == (0, f"{tmp_path}\n")


def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("earlier\n")
    assert run_task(make(tmp_path, "print('said'); raise SystemExit(3)"), print) == (3, "said\n")
    assert (tmp_path / "log").read_text() == "earlier\nsaid\n"


def test_progress_tells_time_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "REPORT_EVERY_S", 0.1)
    lines: list[str] = []
    run_task(make(tmp_path, "import time; time.sleep(1)"), lines.append)
    assert lines[0] == "working (0 s, 12 MiB)"


def test_a_task_past_its_limit_is_killed(tmp_path: Path) -> None:
    code, output = run_task(
        make(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)", 1), print
    )
    assert code == TIMED_OUT
    assert not Path(f"/proc/{int(output)}").exists()


def test_a_task_does_not_outlive_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "REPORT_EVERY_S", 0.5)

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(make(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)"), interrupted)
    time.sleep(0.05)
    assert not Path(f"/proc/{(tmp_path / 'log').read_text().strip() or signal.SIGKILL}").exists()


def test_a_temporary_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    with pytest.raises(StorageError, match="no folder for temporary files"):
        run_task(make(tmp_path, "pass"), print)
