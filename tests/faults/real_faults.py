"""Faults of a run on a real Ray cluster of fake nodes, and what a run came to in spite of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from cli_runs import ROOT, CliRun, command_line, descendants, kill, of_kind, records, results

from raybench.engine.leftovers import left_overs

KINDS = ["H200", "H200", "B200"]
TARGETS = [
    {"name": "h200", "accelerator": "H200", "nodes": 2, "gpus_per_node": 8},
    {"name": "b200", "accelerator": "B200", "gpus_per_node": 8},
]
CONFIG = {
    "targets": TARGETS,
    "perf": [
        {"batch_sizes": [1], "input_tokens": 64, "output_tokens": 64, "repeats": 3, "warm_up": {"max_passes": 2}}
    ],
    "evals": [
        {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 400}, "limit": 8, "concurrency": 2,
         "block_size": 4}
    ],
    "preflight": {"enabled": False},
}  # fmt: skip


class Nodes(Protocol):
    """A cluster under faults."""

    address: str

    def add(self, kind: str) -> None:
        """Another machine: `H200`, `B200` or `CPU`."""
        ...


class FakeNodes:
    """The cluster and what it takes to keep it whole."""

    def __init__(self, log: Path, kinds: Sequence[str] = KINDS) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        env |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
        script = Path(__file__).with_name("fake_nodes.py")
        with log.open("wb") as errors:
            self.child = subprocess.Popen(
                [sys.executable, str(script), *kinds], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
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
        if self.child.stdout is not None:
            self.child.stdout.close()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pid in below:
            kill(pid)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def servers(run: CliRun) -> list[tuple[int, str]]:
    """(process, target) of the engines that run; those of SGLang are of the target `cpu`."""
    found: list[tuple[int, str]] = []
    for left in left_overs(run.run_id):
        words = command_line(left.pid)
        if "simulated_server" in words:
            found.append((left.pid, json.loads(Path(words.split()[-1]).read_text())["target"]))
        elif "sglang.launch_server" in words and "guardian.py" not in words:
            found.append((left.pid, "cpu"))
    return found


def server_of(run: CliRun, *targets: str) -> int:
    """Process of an engine of one of the targets."""
    for pid, target in servers(run):
        if target in targets:
            return pid
    raise AssertionError(f"no server of {targets}")


def owners(server: int) -> tuple[int, int]:
    """(worker, raylet) behind an engine's process. SGLang's parent is its guardian, which has left the worker's tree:
    it watches the raylet, and the worker holds the other end of its pipe.
    """
    above = parent(server)
    words = command_line(above).split()
    if not any(word.endswith("guardian.py") for word in words):
        return above, parent(above)
    raylet = next(pid for pid in _watched(above) if _is_raylet(pid))
    pipe = _files(above)[words[-1]]
    worker = next(pid for pid in descendants(raylet) if pipe in _files(pid).values())
    return worker, raylet


def _watched(pid: int) -> list[int]:
    """Processes of which a process holds a descriptor."""
    about = [path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir()]
    lines = [line.split() for text in about for line in text.splitlines()]
    return [int(words[1]) for words in lines if words[0] == "Pid:"]


def _files(pid: int) -> dict[str, str]:
    """What the descriptors of a process lead to."""
    found: dict[str, str] = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[path.name] = str(path.readlink())
    return found


def _is_raylet(pid: int) -> bool:
    return Path(command_line(pid).partition(" ")[0]).name == "raylet"


def worker_killed(run: CliRun, nodes: Nodes) -> int:
    kill(owners(server_of(run, "h200", "cpu"))[0])
    return 1


def raylet_to_hit(run: CliRun) -> tuple[int, list[str]]:
    """(raylet, targets of its nodes): that with the fewest, but not the head's.

    Simulated nodes take no GPUs, so Ray may put several on one raylet, or one on the head's. That of the head is the
    driver's own too: without it Ray ends all that the driver has made.
    """
    held: dict[int, list[str]] = {}
    for pid, target in servers(run):
        held.setdefault(owners(pid)[1], []).append(target)
    hit = {raylet: targets for raylet, targets in held.items() if "--head" not in command_line(raylet).split()}
    assert hit, "no server on another raylet than the head's"
    return min(hit.items(), key=lambda item: len(item[1]))


def idle_raylet(fake_nodes: FakeNodes) -> int:
    """A machine beside the head's of a cluster on which nothing runs."""
    lines = {pid: command_line(pid).split() for pid in descendants(fake_nodes.child.pid)}
    return next(pid for pid, words in lines.items() if _is_raylet(pid) and "--head" not in words)


def raylet_killed(run: CliRun, nodes: Nodes) -> int:
    raylet, targets = raylet_to_hit(run)
    kill(raylet)
    nodes.add(targets[0].upper())
    return len(targets)


def host_lost(run: CliRun, nodes: Nodes) -> int:
    """Everything of a machine at once, as a power cut does it."""
    raylet, targets = raylet_to_hit(run)
    for pid in [raylet, *descendants(raylet)]:
        kill(pid)
    nodes.add(targets[0].upper())
    return len(targets)


def driver_killed(run: CliRun, nodes: Nodes) -> int:
    run.send(signal.SIGKILL)
    return 0


def publisher_killed(run: CliRun, nodes: Nodes) -> int:
    def publishers() -> list[int]:
        return [pid for pid in descendants(run.pid) if "publish" in command_line(pid)]

    run.until(lambda: bool(publishers()))
    for pid in publishers():
        kill(pid)
    return 0


def tail_torn(run: CliRun, nodes: Nodes) -> int:
    """The driver dies within a line."""
    run.send(signal.SIGKILL)
    run.wait()
    ledger = run.folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-25])
    return 0


Blow = Callable[[CliRun, Nodes], int]
"""Strikes a run and says how many nodes that costs it."""


def judged(folder: Path) -> dict[str, Any]:
    """What the run came to: its replies, its scores and its verdict. Times are a machine's, and not compared."""
    found = records(folder)
    report = json.loads((folder / "report.json").read_text())
    samples = {r["key"]: (r["body"]["reply"], r["body"]["finish_reason"]) for r in of_kind(found, "sample")}
    return {
        "samples": samples,
        "units": sorted(r["key"] for r in results(found)),
        "scores": [(row["target"], row["accuracy"]) for row in report["evals"]],
        "verdict": report["verdict"],
    }
