"""Who else is on a machine: engines of other runs by their mark, users of the GPUs by the driver's word."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest

from raybench.engine.leftovers import MARK, LeftOver
from raybench.node.facts import node_facts, strangers
from raybench.node.telemetry import GpuUser, gpu_users
from raybench.records import Stranger

MIB = 2**20


def test_engines_of_other_runs_and_users_of_the_gpus_are_strangers_and_our_own_are_not() -> None:
    marked = [LeftOver(10, "old-1", "sglang::schedul"), LeftOver(11, "mine-1", "sglang::schedul")]
    users = [
        GpuUser(10, 0, 100 * MIB), GpuUser(10, 1, 50 * MIB), GpuUser(11, 0, 900 * MIB), GpuUser(2**22 + 1, 3, None),
    ]  # fmt: skip
    assert strangers("mine-1", marked, users) == (
        Stranger(pid=10, name="sglang::schedul", run="old-1", gpus=(0, 1), gpu_memory_mib=150),
        Stranger(pid=2**22 + 1, name="", gpus=(3,)),
    )
    assert strangers("mine-1", marked[1:], users[2:3]) == ()


def test_words_say_what_is_known() -> None:
    assert Stranger(pid=3, name="", gpus=(1,)).words == "process (pid 3) on GPU 1"
    assert Stranger(pid=3, name="x", run="r").words == "x (pid 3) of run r"


def test_a_server_that_a_killed_run_left_behind_is_found_when_a_node_joins() -> None:
    script = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {MARK: "killed-run-77"}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:  # fmt: skip
        assert server.stdout is not None and server.stdin is not None
        server.stdout.readline()
        mine = [s for s in node_facts("n0", "CPU", None, None, "my-run").strangers if s.run == "killed-run-77"]
        assert [s.pid for s in mine] == [server.pid]
        # A simulated node has no machine to share.
        assert node_facts("n0", "CPU", "simulated:n0", None, "my-run").strangers == ()
        own = node_facts("n0", "CPU", None, None, "killed-run-77").strangers
        assert server.pid not in [s.pid for s in own]
        server.stdin.close()


def test_the_driver_names_the_users_of_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    running = {"gpu-0": [SimpleNamespace(pid=5, usedGpuMemory=MIB)], "gpu-1": []}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: f"gpu-{index}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda gpu: running[gpu])
    assert gpu_users() == [GpuUser(5, 0, MIB)]
