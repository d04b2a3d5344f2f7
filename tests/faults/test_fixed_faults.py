"""Six faults on one real Ray cluster of fake nodes, each held against the undisturbed run: same samples, replies,
scores and verdict, every attempt ended once, nothing left running. And the acceptance of a fleet with a slow node.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import (
    ROOT,
    CliRun,
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    command_line,
    descendants,
    finished,
    kill,
    of_kind,
    records,
    results,
    wait_for,
)

from raybench.engine.leftovers import left_overs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

KINDS = ["H200", "H200", "B200"]
TARGETS = [
    {"name": "h200", "accelerator": "H200", "nodes": 2, "gpus_per_node": 8},
    {"name": "b200", "accelerator": "B200", "gpus_per_node": 8},
]
CONFIG = {
    "targets": TARGETS,
    "perf": [
        {"batch_sizes": [1, 2], "input_tokens": 64, "output_tokens": 64, "repeats": 4, "warm_up": {"max_passes": 2}}
    ],
    "evals": [
        {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 400}, "limit": 16, "concurrency": 2,
         "block_size": 4}
    ],
    "preflight": {"enabled": False},
}  # fmt: skip


class FakeNodes:
    """The cluster and what it takes to keep it whole."""

    def __init__(self, log: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        # Dead machines are noticed as quickly as is safe here: by default a raylet's death takes 14 s.
        env |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
        env |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
        script = Path(__file__).with_name("fake_nodes.py")
        with log.open("wb") as errors:
            self.child = subprocess.Popen(
                [sys.executable, str(script), *KINDS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, start_new_session=True, text=True, env=env,
            )  # fmt: skip
        assert self.child.stdout is not None
        self.address = ""
        for line in self.child.stdout:
            if line.startswith("{"):
                self.address = json.loads(line)["address"]
                break
        assert self.address, log.read_text()

    def add(self, kind: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(f"{kind}\n")
        self.child.stdin.flush()

    def close(self) -> None:
        below = descendants(self.child.pid)
        assert self.child.stdin is not None
        self.child.stdin.close()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pid in below:
            kill(pid)


@pytest.fixture(scope="module")
def fake_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNodes]:
    cluster = FakeNodes(tmp_path_factory.mktemp("fake-nodes") / "log")
    yield cluster
    cluster.close()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def server_of(run: CliRun, target: str) -> int:
    """Process of a simulated engine of the target."""
    for left in left_overs(run.run_id):
        words = command_line(left.pid)
        if "simulated_server" in words and json.loads(Path(words.split()[-1]).read_text())["target"] == target:
            return left.pid
    raise AssertionError(f"no server of {target}")


def worker_killed(run: CliRun, fake_nodes: FakeNodes) -> None:
    kill(parent(server_of(run, "h200")))


def raylet_killed(run: CliRun, fake_nodes: FakeNodes) -> None:
    kill(parent(parent(server_of(run, "h200"))))
    fake_nodes.add("H200")


def host_lost(run: CliRun, fake_nodes: FakeNodes) -> None:
    """Everything of a machine at once, as a power cut does it."""
    raylet = parent(parent(server_of(run, "b200")))
    for pid in [raylet, *descendants(raylet)]:
        kill(pid)
    fake_nodes.add("B200")


def driver_killed(run: CliRun, fake_nodes: FakeNodes) -> None:
    run.send(signal.SIGKILL)


def publisher_killed(run: CliRun, fake_nodes: FakeNodes) -> None:
    def publishers() -> list[int]:
        return [pid for pid in descendants(run.pid) if "publish" in command_line(pid)]

    run.until(lambda: bool(publishers()))
    for pid in publishers():
        kill(pid)


def tail_torn(run: CliRun, fake_nodes: FakeNodes) -> None:
    """The driver dies within a line."""
    run.send(signal.SIGKILL)
    run.wait()
    ledger = run.folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-25])


Blow = Callable[[CliRun, FakeNodes], None]
FAULTS: list[Blow] = [worker_killed, raylet_killed, host_lost, driver_killed, publisher_killed, tail_torn]


def judged(folder: Path) -> dict[str, Any]:
    """What the run came to: its replies, its scores and its verdict. Times are a machine's, and not compared."""
    found = records(folder)
    report = json.loads((folder / "report.json").read_text())
    samples = {r["key"]: (r["body"]["reply"], r["body"]["finish_reason"]) for r in of_kind(found, "sample")}
    return {
        "samples": samples,
        "units": sorted(r["key"] for r in results(found)),
        "scores": [(row["target"], row["score"]) for row in report["evals"]],
        "verdict": report["verdict"],
    }


@pytest.fixture(scope="module")
def undisturbed(fake_nodes: FakeNodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("undisturbed")}


def whole(out: Path, path: Path, fake_nodes: FakeNodes, wanted: dict[str, Any]) -> dict[str, Any]:
    """The undisturbed run, made once."""
    if "judged" not in wanted:
        began = time.monotonic()
        code, output = finished(out, str(path), "--out", str(out), "--address", fake_nodes.address)
        assert code == 0, output
        wanted |= {"judged": judged(out), "seconds": time.monotonic() - began}
    return wanted


@pytest.mark.parametrize("blow", FAULTS, ids=lambda blow: blow.__name__)
def test_a_fault_changes_nothing_but_the_time(
    blow: Blow, fake_nodes: FakeNodes, undisturbed: dict[str, Any], tmp_path: Path, config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish = {"sinks": ["parquet"], "follow": True, "follow_every_s": 1, "wandb": {"mode": "disabled"}}
    path = config(
        **CONFIG, publish=publish if blow is publisher_killed else {"sinks": [], "wandb": {"mode": "disabled"}}
    )
    expected = whole(undisturbed["folder"] / "out", path, fake_nodes, undisturbed)
    out = tmp_path / "out"
    words = [str(path), "--address", fake_nodes.address, "--wait-for-nodes-s", "60"]
    began = time.monotonic()
    with cli_run(out, *words, "--out", str(out)) as run:
        run.until_done(5)
        blow(run, fake_nodes)
        code = run.wait()
        assert_none_survives(run.run_id)
        output = run.output()
    if blow in (driver_killed, tail_torn):
        assert code == -signal.SIGKILL
        code, output = finished(out, *words, "--resume", str(out))
    assert code == 0, output
    lost_s = time.monotonic() - began - expected["seconds"]
    assert_each_attempt_ended_once(records(out))
    assert judged(out) == expected["judged"]
    losses = [r for r in of_kind(records(out), "decision") if r["body"]["what"] == "node_lost"]
    assert len(losses) == (1 if blow in (worker_killed, raylet_killed, host_lost) else 0), output
    with capsys.disabled():
        print(f"\n{blow.__name__}: {lost_s:.1f} s lost of {expected['seconds']:.1f} s")


def test_the_acceptance_of_a_fleet_names_the_slow_node(
    fake_nodes: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    timing = {"jitter_fraction": 0.01, "faults": {"slow_factor": 1.3, "on_nodes": ["n1"]}}
    sweep = {
        "name": "every-node", "every_node": True, "batch_sizes": [1, 2, 4], "input_tokens": 256, "output_tokens": 64,
        "repeats": 2,
    }  # fmt: skip
    path = config(timing, targets=TARGETS[:1], perf=[sweep], evals=None)
    out = tmp_path / "out"
    wait_for(lambda: fake_nodes.child.poll() is None)
    words = [str(path), "--out", str(out), "--address", fake_nodes.address, "--wait-for-nodes-s", "60"]
    code, output = finished(out, *words)
    assert code == 0, output
    report = json.loads((out / "report.json").read_text())
    slow = [finding for finding in report["findings"] if finding["code"] == "slow_node"]
    assert len(slow) == 1 and slow[0]["advice"].startswith("n1 is slow")
    ranking = report["acceptances"][0]["ranking"]
    assert [node["node"] for node in ranking["nodes"]] == ["n1", "n0"]
    assert all(node["num_passes"] == 6 for node in ranking["nodes"])
    assert "FLEET h200 every-node: 2 nodes, slow: n1" in " ".join(output.split())
