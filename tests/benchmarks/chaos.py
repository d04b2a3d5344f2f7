"""Random fault schedules on a real Ray cluster: `python tests/benchmarks/chaos.py [NUM [FIRST_SEED]] [--sglang]`.

Every schedule is a whole run with one to three faults at random moments, resumed where the driver died: of three fake
GPU nodes with simulated engines, or of two nodes with a real SGLang CPU server each (`--sglang`, minutes a schedule).
It must give what the undisturbed run gives (samples, replies, scores, verdict), end every attempt once and leave no
process. Prints a line for each (a fault in brackets came when the run had ended, or met nothing to strike), and the
time lost by kind of fault; exit code 1 if a schedule gave something else.

As root every machine is a network namespace, so that silence is among the faults: a blink of 8 s, and a partition of
90 s, which Ray takes for the machine's end. A paused node is a worker that is stopped for a while; a full disk is a
small file system of its own (needs root too).
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from threading import Timer
from typing import Any

import yaml

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from cli_runs import (  # noqa: E402
    CliRun,
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    finished,
    records,
    results,
)
from faults.apart import MachinesApart, alone, is_alone  # noqa: E402
from faults.real_faults import (  # noqa: E402
    CONFIG,
    KINDS,
    FakeNodes,
    Nodes,
    driver_killed,
    host_lost,
    judged,
    owners,
    publisher_killed,
    raylet_killed,
    raylet_to_hit,
    server_of,
    tail_torn,
    worker_killed,
)
from netns import missing  # noqa: E402

TIMING = {
    "prefill_tok_per_s": {1: 4000}, "itl_ms": {1: 5}, "jitter_fraction": 0, "startup_s": 0, "accuracy": {"sums": 1.0},
    "reply_tokens": {"sums": 40},
}  # fmt: skip
SIMULATED: dict[str, Any] = {
    "model": {"path": "owner/simulated-model"}, "engine": {"kind": "simulated", "simulated": TIMING}
} | CONFIG  # fmt: skip
SGLANG: dict[str, Any] = {
    "model": {"path": "tiny:trained"},
    "targets": [{"name": "cpu", "accelerator": "CPU", "nodes": 2}],
    "engine": {
        "kind": "sglang", "environment": {"managed": {"version": "0.5.21", "device": "cpu"}},
        "args": {"max-total-tokens": 65536, "dtype": "float32"}, "startup_timeout_s": 600,
    },
    "perf": [{"batch_sizes": [1], "input_tokens": 64, "output_tokens": 64, "repeats": 3}],
    "evals": [{"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "concurrency": 1, "limit": 16}],
    "preflight": {"enabled": False},
}  # fmt: skip
BLINK_S, PARTITION_S = 8.0, 90.0
"""Ray gives a machine up that it has not heard of for a minute."""


def blink(run: CliRun, nodes: Nodes) -> None:
    """A cable that is plugged in again."""
    assert isinstance(nodes, MachinesApart)
    nodes.cut(raylet_to_hit(run)[0], BLINK_S)


def partition(run: CliRun, nodes: Nodes) -> None:
    """A machine that nobody hears of, while it goes on working."""
    assert isinstance(nodes, MachinesApart)
    raylet, targets = raylet_to_hit(run)
    nodes.cut(raylet, PARTITION_S)
    nodes.add(targets[0].upper())


def node_paused(run: CliRun, nodes: Nodes) -> None:
    """A worker that gets no CPU for a while, as on a machine that swaps."""
    worker, _ = owners(server_of(run, "h200", "cpu"))
    os.kill(worker, signal.SIGSTOP)
    Timer(8.0, _wake, [worker]).start()


def _wake(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def server_killed(run: CliRun, nodes: Nodes) -> None:
    os.kill(server_of(run, "b200", "cpu"), signal.SIGKILL)


def disk_full(run: CliRun, nodes: Nodes) -> None:
    """What is left of the run folder's file system is taken."""
    with (run.folder.parent / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            return


FAULTS: dict[str, Callable[[CliRun, Nodes], int | None]] = {
    "worker": worker_killed, "raylet": raylet_killed, "host": host_lost, "driver": driver_killed,
    "publisher": publisher_killed, "torn tail": tail_torn, "paused node": node_paused, "server": server_killed,
    "full disk": disk_full, "blink": blink, "partition": partition,
}  # fmt: skip
NEEDS_ROOT = ("full disk", "blink", "partition")
ENDS_DRIVER = ("driver", "torn tail", "full disk")


class SmallDisk:
    """A file system for a run folder that can be filled; without root the folder's own, which cannot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
        self.is_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        if not self.is_small:
            return
        for _ in range(50):
            done = subprocess.run(["umount", str(self.folder)], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.2)
        raise AssertionError(f"somebody still uses the run folder: {done.stderr}")


def schedule(seed: int, *, is_root: bool) -> list[tuple[str, int]]:
    """(fault, number of units that are done by then)."""
    rng = random.Random(f"real chaos {seed}")
    kinds = [kind for kind in FAULTS if is_root or kind not in NEEDS_ROOT]
    return sorted(((rng.choice(kinds), rng.randint(1, 6)) for _ in range(rng.randint(1, 3))), key=lambda one: one[1])


def play(seed: int, path: Path, nodes: Nodes, folder: Path) -> tuple[list[str], list[str], dict[str, Any]]:
    """One schedule; returns the faults that were played, those that met nothing to strike, and what the run came to."""
    disk = SmallDisk(folder)
    out = folder / "out"
    words = [str(path), "--address", nodes.address, "--wait-for-nodes-s", "60"]
    left = schedule(seed, is_root=is_alone())
    played: list[str] = []
    missed: list[str] = []
    try:
        for number in range(6):
            place = ["--resume", str(out)] if number else ["--out", str(out)]
            with cli_run(out, *words, *place) as run:
                while left and run.is_running:
                    kind, done = left.pop(0)
                    if not _until_done(run, done):
                        break
                    try:
                        FAULTS[kind](run, nodes)
                    except (AssertionError, OSError):
                        missed.append(kind)  # what it would have struck is not there any more
                        continue
                    played.append(kind)
                    if kind in ENDS_DRIVER:
                        break
                code = run.wait()
                assert_none_survives(run.run_id)
            (folder / "ballast").unlink(missing_ok=True)
            if code == 0:
                break
        else:
            raise AssertionError(f"not done after {number + 1} sessions: {run.output()}")
        if played[-1:] == ["publisher"]:
            assert finished(out, *words, "--resume", str(out))[0] == 0
        assert_each_attempt_ended_once(records(out))
        return played, [*missed, *(kind for kind, _ in left)], judged(out)
    finally:
        disk.close()


def _until_done(run: CliRun, num_units: int) -> bool:
    while run.is_running:
        if (run.folder / "ledger.jsonl").exists() and len(results(run.records())) >= num_units:
            return True
        time.sleep(0.05)
    return False


def cluster_of(folder: Path, *, sglang: bool) -> FakeNodes | MachinesApart:
    kinds = ["CPU", "CPU"] if sglang else KINDS
    log = folder / "cluster.log"
    return MachinesApart(log, kinds, num_head_cpus=0 if sglang else 2) if is_alone() else FakeNodes(log, kinds)


def main(num: int, first: int, *, sglang: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    publish = {"sinks": ["parquet"], "follow": True, "follow_every_s": 2, "wandb": {"mode": "disabled"}}
    content = {"name": "chaos", "publish": publish} | (SGLANG if sglang else SIMULATED)
    path = folder / "chaos.yaml"
    path.write_text(yaml.safe_dump(content))
    nodes = cluster_of(folder, sglang=sglang)
    lost: dict[str, list[float]] = defaultdict(list)
    bad = 0
    try:
        began = time.monotonic()
        words = (str(path), "--address", nodes.address, "--wait-for-nodes-s", "60")
        code, output = finished(folder / "calm", *words, "--out", str(folder / "calm"))
        assert code == 0, output
        calm_s, expected = time.monotonic() - began, judged(folder / "calm")
        print(f"undisturbed: {calm_s:.1f} s", flush=True)
        for seed in range(first, first + num):
            began = time.monotonic()
            try:
                played, missed, seen = play(seed, path, nodes, folder / f"run{seed}")
                same = seen == expected
            except AssertionError as error:
                played, missed, same = [str(error)[-600:]], [], False
            seconds = time.monotonic() - began - calm_s
            bad += not same
            words = ", ".join([*played, *(f"({kind})" for kind in missed)])
            print(f"{seed}: {'same' if same else 'NOT THE SAME'}, {seconds:+.1f} s: {words}", flush=True)
            if len(played) == 1 and same:
                lost[played[0]].append(seconds)
    finally:
        nodes.close()
    for kind, values in lost.items():
        print(f"{kind}: mean {fmean(values):.1f} s, worst {max(values):.1f} s, {len(values)} alone")
    print(f"{num - bad} of {num} schedules gave what the undisturbed run gives")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num", type=int, nargs="?", default=50)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("--sglang", action="store_true")
    given = parser.parse_args()
    if not is_alone() and (reason := missing()) is None:
        alone(sys.argv)
    if not is_alone():
        print(f"without partitions and full disks: {reason}")
    sys.exit(main(given.num, given.first, sglang=given.sglang))
