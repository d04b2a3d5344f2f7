"""A fleet that grows and shrinks while it works, on a real Ray cluster: a machine that comes late gets work, and one
that is drained hands its work back and is replaced.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_runs import CliRun, assert_each_attempt_ended_once, assert_none_survives, cli_run, of_kind, records, results
from faults.real_faults import CONFIG, TARGETS, FakeNodes, owners, servers
from faults.test_real_server import write_config

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

NUM_REPEATS = 16
SWEEP = {
    "batch_sizes": [1], "input_tokens": 64, "output_tokens": 128, "repeats": NUM_REPEATS, "warm_up": {"max_passes": 2}
}  # fmt: skip
WORK = CONFIG | {"targets": TARGETS[:1], "perf": [SWEEP], "evals": None, "publish": {"wandb": {"mode": "disabled"}}}


@pytest.fixture(params=[1])
def machines(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FakeNodes]:
    """A cluster of one machine, or of so many as the test says."""
    cluster = FakeNodes(tmp_path / "fake-nodes", ["H200"] * request.param)
    yield cluster
    cluster.close()


def decided(run: CliRun, what: str) -> list[str]:
    """Reasons of the decisions of one kind."""
    return [r["body"]["reason"] for r in of_kind(run.records(), "decision") if r["body"]["what"] == what]


def nodes_at_work(run: CliRun) -> set[str]:
    return {record["node"] for record in results(run.records())}


@pytest.mark.sglang
def test_a_machine_that_comes_late_gets_work(machines: FakeNodes, tmp_path: Path) -> None:
    # Simulated nodes need no machine of their own and are never missing: here SGLang's CPU servers take the GPUs.
    out = tmp_path / "out"
    perf = [{"batch_sizes": [1], "input_tokens": 64, "output_tokens": 32, "repeats": 500}]
    path = write_config(tmp_path / "late.yaml", targets=TARGETS[:1], perf=perf, evals=None)
    words = [str(path), "--out", str(out), "--address", machines.address, "--start-with-fewer"]
    with cli_run(out, *words) as run:
        run.until_done(1)
        assert "beginning with 1 of 2 nodes; the others may join" in run.output()
        assert nodes_at_work(run) == {"n0"}
        machines.add("H200")
        run.until(lambda: nodes_at_work(run) == {"n0", "n1"})
        run.ctrl_c()
        assert run.wait() == 130, run.output()
        assert_none_survives(run.run_id)
    assert_each_attempt_ended_once(records(out))


@pytest.mark.parametrize("machines", [2], indirect=True)  # from the start: Ray puts both nodes on one otherwise
def test_a_machine_that_is_drained_hands_its_work_back(
    machines: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    out = tmp_path / "out"
    path = config(**WORK)
    words = [str(path), "--out", str(out), "--address", machines.address, "--wait-for-nodes-s", "60"]
    with cli_run(out, *words) as run:
        run.until(lambda: nodes_at_work(run) == {"n0", "n1"})
        drain(machines, run)
        run.until(lambda: bool(decided(run, "node_leaving")))
        (reason,) = decided(run, "node_leaving")
        gone = reason.partition(":")[0]
        run.until(lambda: bool(decided(run, "node_released")))
        machines.add("H200")
        assert run.wait() == 0, run.output()
        assert_none_survives(run.run_id)
    found = records(out)
    assert_each_attempt_ended_once(found)
    assert len(results(found)) == NUM_REPEATS
    assert decided(run, "node_lost") == [], "it was let go, not lost"
    failed = [record["body"]["cause"] for record in of_kind(found, "unit_failed")]
    assert set(failed) <= {"withdrawn"}, "what ran there was finished, what waited was taken back"
    after = next(r["seq"] for r in found if r["kind"] == "decision" and r["body"]["what"] == "node_released")
    assert {record["node"] for record in results(found) if record["seq"] > after} - {gone}
    assert gone not in {record["node"] for record in results(found) if record["seq"] > after}


def drain(cluster: FakeNodes, run: CliRun) -> None:
    """What a notice that a spot machine is about to go makes Ray do."""
    raylet = Path(f"/proc/{owners(servers(run)[0][0])[1]}/cmdline").read_text()
    node = next(word.partition("=")[2] for word in raylet.split("\0") if word.startswith("--node_id="))
    words = [
        "drain-node", "--address", cluster.address, "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message", "spot", "--deadline-remaining-seconds", "120",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *words], capture_output=True, check=False)
    assert done.returncode == 0, json.dumps([done.stdout.decode(), done.stderr.decode()])
