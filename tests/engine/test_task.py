import signal
import sys
import time
from pathlib import Path

import pytest

from raybench.engine import task
from raybench.engine.task import TIMED_OUT, Task, run_task
from raybench.process import child_environment


def make(tmp_path: Path, script: str, timeout_s: float = 30) -> Task:
    argv = (sys.executable, "-c", script)
    return Task(argv, child_environment({}), tmp_path / "log", "working", timeout_s, mib=lambda: 12.0)


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
