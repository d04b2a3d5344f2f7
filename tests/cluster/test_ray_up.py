"""`ray up cluster.yaml`, `ray job submit`, a lost host, `ray down`: all for real on hosts in namespaces.

Our own `cluster.yaml` with its addresses filled in, its docker section included. Docker, pip and sudo are doubles, and
the GPUs are declared: everything else is what runs on rented machines. Takes three minutes, so that it is asked for:
`RAYBENCH_RAY_UP=1 pytest -s tests/cluster`, as root.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runs import (
    ROOT,
    assert_each_attempt_ended_once,
    assert_none_survives,
    of_kind,
    records,
    results,
    wait_for,
)
from cluster.hosts import Host, hosts, missing, processes

reason = missing() if os.environ.get("RAYBENCH_RAY_UP") == "1" else "three minutes: set RAYBENCH_RAY_UP=1"
pytestmark = [
    pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200),
    pytest.mark.skipif(reason is not None, reason=str(reason)),
]  # fmt: skip

GPUS = {"head": None, "one": "H200", "two": "H200", "three": "B200"}
LAUNCHER_ENV = {"RAY_UP_enable_autoscaler_v2": "0", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

STUDY = {
    "name": "up",
    "model": {"path": "owner/simulated-model"},
    "targets": [
        {"name": "h200", "accelerator": "H200", "nodes": 2, "gpus_per_node": 8},
        {"name": "b200", "accelerator": "B200", "gpus_per_node": 8},
    ],
    "engine": {
        "kind": "simulated",
        "simulated": {
            "prefill_tok_per_s": {1: 4000}, "itl_ms": {1: 10}, "jitter_fraction": 0, "startup_s": 0,
            "accuracy": {"sums": 1.0}, "reply_tokens": {"sums": 40},
        },
    },
    "perf": [{"batch_sizes": [1, 2], "input_tokens": 64, "output_tokens": 32, "repeats": 20}],
    "evals": [
        {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 400}, "limit": 32, "concurrency": 4,
         "block_size": 8}
    ],
    "publish": {"wandb": {"mode": "disabled"}},
}  # fmt: skip


def declared(accelerator: str | None) -> dict[str, str]:
    """Environment of a host's container: Ray finds GPUs by itself on real machines."""
    env = {"PYTHONPATH": "/root/raybench", "RAY_USAGE_STATS_ENABLED": "0"}
    if accelerator is not None:
        env["RAY_OVERRIDE_RESOURCES"] = json.dumps({"GPU": 8, f"accelerator_type:{accelerator}": 1})
        env["RAY_OVERRIDE_LABELS"] = json.dumps({"ray.io/accelerator-type": accelerator})
    return env


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Reachable under the same name on all hosts."""
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Steps:
    """Commands on the launcher, and how long each took."""

    def __init__(self, launcher: Host) -> None:
        self._launcher = launcher
        self._began = time.monotonic()

    def say(self, words: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {words}", flush=True)

    def run(self, words: str) -> str:
        """Output of a command that ends well."""
        self.say(f"$ {words}")
        done = subprocess.run(
            self._launcher.command(words, LAUNCHER_ENV), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=600,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{words}: {done.returncode}\n{output}"
        self.say(f"ended with 0: {output.strip().splitlines()[-1] if output.strip() else ''}")
        return output

    def start(self, words: str, log: Path) -> "subprocess.Popen[bytes]":
        self.say(f"$ {words} &")
        with log.open("wb") as output:
            return subprocess.Popen(
                self._launcher.command(words, LAUNCHER_ENV), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip


def cluster_file(scratch: Path, there: dict[str, Host]) -> Path:
    """Ours, with what is marked CHANGE filled in."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    content["provider"] |= {
        "head_ip": there["head"].address,
        "worker_ips": [there[name].address for name in GPUS if name != "head"],
    }
    content["auth"] = {"ssh_user": "root", "ssh_private_key": str(scratch / "key")}
    path = scratch / "cluster.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def until(happened: Callable[[], bool], what: Callable[[], str]) -> None:
    wait_for(happened, what)


def test_a_cluster_comes_up_runs_a_job_loses_a_host_and_goes_down(scratch: Path) -> None:
    envs = {name: declared(kind) for name, kind in GPUS.items()}
    with hosts(scratch, envs | {"launcher": {}}) as there:
        steps = Steps(there["launcher"])
        file = cluster_file(scratch, there)
        steps.run(f"ray up -y --no-config-cache {file}")
        check_docker(scratch / "doubles")
        forward = steps.start(f"ray dashboard {file} --no-config-cache", scratch / "forward.log")
        try:
            run_job(steps, scratch, there)
        finally:
            forward.kill()
            forward.wait()
        steps.run(f"ray down -y {file}")
        left = [host for name, host in there.items() if name not in ("two", "launcher")]
        until(lambda: not processes(left, "raylet"), lambda: "\n".join(processes(left, "ray")))
        steps.say("no Ray process is left on any host")


def check_docker(log: Path) -> None:
    """What Ray's launcher asked of docker and pip on the head is what `cluster.yaml` says."""
    calls = (log / "docker.head").read_text().splitlines()
    started = next(call for call in calls if call.startswith("run "))
    assert "--name raybench" in started and started.endswith("--net=host raybench-sglang:v0.5.21 bash")
    for option in ("--shm-size=32g", "--ulimit=memlock=-1", "-e RAY_AUTH_MODE=disabled", ":/shared"):
        assert option in started, option
    assert "--gpus=all" not in started, "docker refuses it on a head without GPUs"
    # Once only: that of the later calls is there.
    assert calls.count("build -t raybench-sglang:v0.5.21 -") == 1
    assert not [call for call in calls if call.startswith("pull ")], "it is in no registry"
    assert (log / "pip.head").read_text().strip() == "install ray[default]==2.60.0 -e /root/raybench"


def run_job(steps: Steps, scratch: Path, there: dict[str, Host]) -> None:
    shared = scratch / "shared"
    (shared / "up.yaml").write_text(yaml.safe_dump(STUDY))
    out = shared / "runs" / "first"
    until(
        lambda: "Ray dashboard port" in (scratch / "forward.log").read_text() or answers(steps, there),
        forward_log(scratch),
    )
    until(lambda: answers(steps, there), forward_log(scratch))
    # All hosts first: a simulated node stands for a machine only where that machine is there when the run begins.
    until(lambda: "/24.0 GPU" in head_status(there), lambda: head_status(there))
    log = scratch / "job.log"
    job = steps.start(
        "ray job submit --address http://127.0.0.1:8265 --submission-id first -- python -m raybench run "
        "/shared/up.yaml --out /shared/runs/first --wait-for-nodes-s 300", log,
    )  # fmt: skip
    try:
        # All three have brought a result: a host that is lost before its node has joined is no lost node.
        until(lambda: job.poll() is not None or len(nodes_with_results(out)) == 3, log.read_text)
        assert job.poll() is None, log.read_text()
        worker = next(
            call for call in (scratch / "doubles" / "docker.two").read_text().splitlines() if call.startswith("run ")
        )
        assert "--gpus=all" in worker
        steps.say(f"{len(results(records(out)))} units are done on 3 hosts; the power of host two fails")
        there["two"].lose()
        lost = time.monotonic()
        until(lambda: job.poll() is not None or bool(losses(out)), log.read_text)
        steps.say(f"the driver knows of it after {time.monotonic() - lost:.1f} s")
        code = job.wait(600)
        assert code == 0, log.read_text()
    finally:
        if job.poll() is None:
            job.kill()
            job.wait()
    for record in of_kind(records(out), "decision", "unit_failed", "node"):
        body = record["body"]
        what = body.get("what") or body.get("cause") or body.get("accelerator")
        steps.say(
            f"{record['kind']} {record.get('node')}: {what} {body.get('reason') or body.get('message') or ''}"[:150]
        )
    check_run(out, log.read_text())
    assert_none_survives(records(out)[0]["body"]["run_id"])
    steps.say(f"the job ended with {code}; {len(results(records(out)))} units done, no process of the run is left")


def forward_log(scratch: Path) -> Callable[[], str]:
    return (scratch / "forward.log").read_text


def answers(steps: Steps, there: dict[str, Host]) -> bool:
    tried = subprocess.run(
        there["launcher"].command("exec 3<>/dev/tcp/127.0.0.1/8265"), capture_output=True, check=False
    )
    return tried.returncode == 0


def head_status(there: dict[str, Host]) -> str:
    """What `ray status` says on the head."""
    asked = subprocess.run(there["head"].command("ray status"), capture_output=True, text=True, check=False)
    return asked.stdout + asked.stderr


def nodes_with_results(out: Path) -> set[str]:
    return {r["node"] for r in results(records(out))} if (out / "ledger.jsonl").exists() else set()


def losses(out: Path) -> list[dict[str, Any]]:
    return [r for r in of_kind(records(out), "decision") if r["body"]["what"] == "node_lost"]


def check_run(out: Path, log: str) -> None:
    found = records(out)
    assert_each_attempt_ended_once(found)
    assert len(losses(out)) == 1
    units = 2 * (2 * 20 + 4)
    assert len({r["key"] for r in results(found)}) == len(results(found)) == units, log
    assert len(of_kind(found, "sample")) == 2 * 32
    assert json.loads((out / "report.json").read_text())["verdict"] == "VALID"
    kinds = {r["node"]: r["body"]["accelerator"] for r in of_kind(found, "node")}
    assert sorted(kinds.values())[:3] == ["B200", "H200", "H200"]
    assert "Succeeded" in log or "succeeded" in log
