"""Faults on a real GPU: `python tests/benchmarks/gpu_faults.py [--model PATH] [--only NAME ...]`.

A Ray cluster whose machine with GPUs is this one, and SGLang of this Python on one of them. First a run that nothing
disturbs, then a run for each fault: it must come to the same samples, replies, scores and verdict (a `dummy:` model has
none: there, to the same units), end every attempt once and leave no process and no GPU memory. Prints a line of JSON
for each, with the seconds from the blow until the GPU's memory was free; exit code 1 if one came to something else.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from one_gpu import TRAINED_ARGS, Memory, engine

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from cli_runs import (  # noqa: E402
    CliRun,
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    finished,
    kill,
    of_kind,
    records,
    results,
)
from faults.real_faults import FakeNodes, driver_killed, judged, parent, server_of, worker_killed  # noqa: E402

GPU = "GPU0"
WARM = ["--keep-warm", "10m"]
TRAINED: dict[str, Any] = {
    "args": TRAINED_ARGS,
    "perf": [{"batch_sizes": [1], "input_tokens": 64, "output_tokens": 64, "repeats": 3}],
    "evals": [{"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "concurrency": 1, "limit": 32}],
}  # fmt: skip
DUMMY: dict[str, Any] = {
    "args": {"load-format": "dummy", "mem-fraction-static": 0.85, "cuda-graph-max-bs-decode": 16},
    "perf": [{"batch_sizes": [1, 16], "input_tokens": 4096, "output_tokens": 128, "repeats": 3}],
}  # fmt: skip


def server_killed(run: CliRun, nodes: FakeNodes) -> None:
    kill(server_of(run, "cpu"))


def raylet_killed(run: CliRun, nodes: FakeNodes) -> None:
    kill(parent(parent(server_of(run, "cpu"))))
    nodes.add(GPU)


FAULTS: dict[str, Callable[[CliRun, FakeNodes], int | None]] = {
    "worker": worker_killed, "server": server_killed, "raylet": raylet_killed, "driver": driver_killed,
    "driver, kept warm": driver_killed,
}  # fmt: skip


def config(model: str, accelerator: str) -> dict[str, Any]:
    kind = DUMMY if model.startswith("dummy:") else TRAINED
    return {
        "name": "gpu-faults", "model": {"path": model}, "preflight": {"enabled": False},
        "targets": [{"name": "gpu", "accelerator": accelerator, "gpus_per_node": 1}],
        "engine": engine(kind["args"]), "perf": kind["perf"], "evals": kind.get("evals", []),
        "publish": {"wandb": {"mode": "disabled"}},
    }  # fmt: skip


def play(fault: str, words: list[str], out: Path, nodes: FakeNodes, memory: Memory) -> dict[str, Any]:
    """One fault after the first result; returns what is to be printed of it."""
    warm = WARM if "warm" in fault else []
    with cli_run(out, *words, *warm, "--out", str(out)) as run:
        run.until_done(1)
        held = memory.held()
        FAULTS[fault](run, nodes)
        line: dict[str, Any] = {"fault": fault, "held_mib": held}
        if not warm:
            line["gpu_free_after_s"] = memory.freed_after_s()
        code, output = run.wait(), run.output()
        if code == -signal.SIGKILL:
            code, output = finished(out, *words, *warm, "--resume", str(out))
        assert code == 0, output[-2000:]
        line["processes_gone_after_s"] = round(assert_none_survives(run.run_id), 2)
    found = records(out)
    assert_each_attempt_ended_once(found)
    engines = [record["body"] for record in of_kind(found, "engine")]
    starts = [phase["duration_s"] for body in engines for phase in body["startup"] if phase["name"] == "total"]
    taken_over = [bool(body["adopted_from"]) for body in engines]
    memory.freed_after_s()
    return line | {"engine_starts_s": [round(seconds, 1) for seconds in starts], "taken_over": taken_over}


def main(model: str, only: list[str]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="gpu-faults-"))
    memory = Memory()
    path = folder / "gpu.yaml"
    path.write_text(yaml.safe_dump(config(model, memory.kind)))
    nodes = FakeNodes(folder / "cluster.log", [GPU])
    words = [str(path), "--address", nodes.address, "--wait-for-nodes-s", "120"]
    num_bad = 0
    try:
        began = time.monotonic()
        code, output = finished(folder / "calm", *words, "--out", str(folder / "calm"))
        assert code == 0, output
        calm_s, expected = time.monotonic() - began, judged(folder / "calm")
        num_units = len(results(records(folder / "calm")))
        print(json.dumps({"fault": None, "gpu": memory.kind, "units": num_units, "seconds": round(calm_s, 1)}))
        for fault in only or FAULTS:
            out = folder / fault.replace(", ", "-").replace(" ", "-")
            began = time.monotonic()
            try:
                line = play(fault, words, out, nodes, memory)
                line["same"] = judged(out) == expected
            except AssertionError as error:
                line = {"fault": fault, "same": False, "error": str(error)[-2000:]}
            line["later_s"] = round(time.monotonic() - began - calm_s, 1)
            num_bad += not line["same"]
            print(json.dumps(line), flush=True)
    finally:
        nodes.close()
    return 1 if num_bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny:trained")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=[])
    given = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    sys.exit(main(given.model, given.only))
