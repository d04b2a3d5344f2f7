"""Nothing below a guarded server survives any death. The trees are real processes: plain and setsid grandchildren."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raybench.engine.guarded import START_LIMIT_S, GuardedServer
from raybench.engine.leftovers import left_overs, sweep
from raybench.errors import EngineStartError
from raybench.process import child_environment

SERVER = """
import os, signal, sys, time
stubborn = sys.argv[1] == "stubborn"
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for own_session in (False, True):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if own_session:
            os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(600)
print("tree is up", flush=True)
if sys.argv[1] == "leaves":
    sys.exit(7)
time.sleep(600)
"""
NUM_MARKED = 6
"""The guardian, the server, two children and two grandchildren."""


def wait_for(happened: Callable[[], bool], limit_s: float = 30.0) -> bool:
    limit = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def start_tree(
    folder: Path, run: str, manner: str = "plain", watch: tuple[int, ...] = (), whole: bool = True
) -> GuardedServer:
    server = GuardedServer(folder, folder / "server.log")
    argv = [sys.executable, "-c", SERVER, manner]
    server.start(argv, child_environment({"RAYBENCH_RUN": run}), watch_pids=watch)
    if whole:
        assert wait_for(lambda: len(left_overs(run)) == NUM_MARKED), left_overs(run)
    return server


@pytest.fixture
def run(tmp_path: Path):
    name = f"guardian-test-{os.getpid()}-{tmp_path.name}"
    yield name
    sweep(name)


@pytest.mark.parametrize(("manner", "exit_status"), [("plain", -signal.SIGTERM), ("stubborn", -signal.SIGKILL)])
def test_stop_leaves_nothing(tmp_path: Path, run: str, manner: str, exit_status: int) -> None:
    server = start_tree(tmp_path, run, manner)
    assert server.end() is None
    end = server.stop(grace_s=1.0)
    assert end is not None
    assert (end.reason, end.exit_status, end.survivors) == ("stop asked", exit_status, ())
    assert left_overs(run) == []
    assert server.stop() == end


def test_an_exit_of_the_server_takes_its_children_along(tmp_path: Path, run: str) -> None:
    server = start_tree(tmp_path, run, "leaves", whole=False)
    assert wait_for(lambda: server.end() is not None)
    end = server.end()
    assert end is not None
    assert (end.reason, end.exit_status) == ("server exited", 7)
    assert wait_for(lambda: left_overs(run) == [])
    server.stop()


def test_sigkill_of_the_server_takes_its_children_along(tmp_path: Path, run: str) -> None:
    server = start_tree(tmp_path, run)
    os.kill(server.pid or 0, signal.SIGKILL)
    assert wait_for(lambda: server.end() is not None)
    end = server.end()
    assert end is not None
    assert (end.reason, end.exit_status) == ("server exited", -signal.SIGKILL)
    assert wait_for(lambda: left_overs(run) == [])
    server.stop()


def test_the_end_of_a_watched_process_ends_everything(tmp_path: Path, run: str) -> None:
    watched = subprocess.Popen(["sleep", "600"])
    server = start_tree(tmp_path, run, watch=(watched.pid,))
    watched.kill()
    watched.wait()
    assert wait_for(lambda: server.end() is not None)
    end = server.end()
    assert end is not None
    assert end.reason == f"watched process {watched.pid} is gone"
    assert wait_for(lambda: left_overs(run) == [])
    server.stop()


def test_a_watched_process_that_is_gone_already_ends_everything(tmp_path: Path, run: str) -> None:
    watched = subprocess.Popen(["true"])
    watched.wait()
    server = start_tree(tmp_path, run, watch=(watched.pid,), whole=False)
    assert wait_for(lambda: server.end() is not None)
    assert wait_for(lambda: left_overs(run) == [])
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_of_the_starter_leaves_nothing(tmp_path: Path, run: str, number: int) -> None:
    marked = {"RAYBENCH_RUN": run}
    script = f"""
import sys, time
from pathlib import Path
from raybench.engine.guarded import START_LIMIT_S, GuardedServer
from raybench.errors import EngineStartError
from raybench.process import child_environment
server = GuardedServer(Path({str(tmp_path)!r}), Path({str(tmp_path / "server.log")!r}))
server.start([sys.executable, "-c", {SERVER!r}, "stubborn"], child_environment({marked!r}), grace_s=0.5)
time.sleep(600)
"""
    env = child_environment({"PYTHONPATH": os.pathsep.join(sys.path)})
    starter = subprocess.Popen([sys.executable, "-c", script], env=env, start_new_session=True)
    assert wait_for(lambda: len(left_overs(run)) == NUM_MARKED), left_overs(run)
    os.killpg(starter.pid, number)
    starter.wait()
    assert wait_for(lambda: left_overs(run) == [])
    last = json.loads((tmp_path / "guardian.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["reason"], last["survivors"]) == ("ended", "starter is gone", [])


def test_death_of_the_guardian_kills_the_server_and_is_noticed(tmp_path: Path, run: str) -> None:
    server = start_tree(tmp_path, run)
    guardian = json.loads((tmp_path / "guardian.jsonl").read_text().splitlines()[0])["pid"]
    os.kill(guardian, signal.SIGKILL)
    assert wait_for(lambda: server.end() is not None)
    end = server.end()
    assert end is not None
    assert end.reason == "the guardian was killed"
    assert wait_for(
        lambda: (
            not Path(f"/proc/{server.pid}/environ").exists() or server.pid not in [left.pid for left in left_overs(run)]
        )
    )
    server.stop()


def test_a_program_that_does_not_exist_is_a_death_with_its_reason_in_the_log(tmp_path: Path, run: str) -> None:
    server = GuardedServer(tmp_path, tmp_path / "server.log")
    server.start([str(tmp_path / "nothing")], child_environment({"RAYBENCH_RUN": run}))
    assert wait_for(lambda: server.end() is not None)
    end = server.end()
    assert end is not None
    assert end.exit_status == 127
    assert "cannot start" in (tmp_path / "server.log").read_text()
    server.stop()


def test_left_overs_are_found_by_their_mark_and_swept(run: str) -> None:
    marked = subprocess.Popen(["sleep", "600"], env={"RAYBENCH_RUN": run, "PATH": os.environ["PATH"]})
    other = subprocess.Popen(["sleep", "600"], env={"RAYBENCH_RUN": run + "-other", "PATH": os.environ["PATH"]})
    try:
        assert wait_for(
            lambda: [(left.pid, left.run, left.name) for left in left_overs(run)] == [(marked.pid, run, "sleep")]
        )
        assert {marked.pid, other.pid} <= {left.pid for left in left_overs()}
        assert [left.pid for left in sweep(run)] == [marked.pid]
        assert marked.wait() == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        marked.kill()
        marked.wait()


def test_a_guardian_that_cannot_start_anything_says_why_at_once(tmp_path: Path) -> None:
    server = GuardedServer(tmp_path, tmp_path / "missing" / "server.log")
    began = time.monotonic()
    with pytest.raises(EngineStartError, match=r"before the engine began: the guardian failed: .*No such file"):
        server.start([sys.executable, "-c", "pass"], child_environment({}))
    assert time.monotonic() - began < START_LIMIT_S / 2
