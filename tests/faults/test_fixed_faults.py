"""Six faults on one real Ray cluster of fake nodes, each held against the undisturbed run: same samples, replies,
scores and verdict, every attempt ended once, nothing left running. And the acceptance of a fleet with a slow node.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import assert_each_attempt_ended_once, assert_none_survives, cli_run, finished, kill, of_kind, records
from faults.real_faults import (
    CONFIG,
    KINDS,
    TARGETS,
    Blow,
    FakeNodes,
    driver_killed,
    host_lost,
    idle_raylet,
    judged,
    publisher_killed,
    raylet_killed,
    tail_torn,
    worker_killed,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fake_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNodes]:
    cluster = FakeNodes(tmp_path_factory.mktemp("fake-nodes") / "log")
    yield cluster
    cluster.close()


FAULTS: list[Blow] = [worker_killed, raylet_killed, host_lost, driver_killed, publisher_killed, tail_torn]


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
        run.until_done(3)
        num_lost = blow(run, fake_nodes)
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
    assert len(losses) == num_lost, output
    with capsys.disabled():
        print(f"\n{blow.__name__}: {lost_s:.1f} s lost of {expected['seconds']:.1f} s")


def test_the_acceptance_of_a_fleet_names_the_slow_node(
    fake_nodes: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    timing = {"jitter_fraction": 0.01, "faults": {"slow_factor": 1.3, "on_nodes": ["n1"]}}
    sweep = {
        "name": "every-node", "every_node": True, "batch_sizes": [1, 4], "input_tokens": 256, "output_tokens": 64,
        "repeats": 3,
    }  # fmt: skip
    path = config(timing, targets=TARGETS[:1], perf=[sweep], evals=None)
    out = tmp_path / "out"
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


def test_a_machine_that_ray_still_takes_for_alive_is_no_part_of_the_run(
    fake_nodes: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    out = tmp_path / "out"
    words = [str(config(**CONFIG)), "--out", str(out), "--address", fake_nodes.address, "--wait-for-nodes-s", "60"]
    raylet = idle_raylet(fake_nodes)
    os.kill(raylet, signal.SIGSTOP)  # Ray may miss a dead one sooner than a run begins
    for kind in KINDS[1:]:
        fake_nodes.add(kind)  # of whichever kind it was, there are enough again
    with cli_run(out, *words) as run:
        run.until(lambda: "Ray cluster at" in run.output())
        kill(raylet)
        code, output = run.wait(), run.output()
    assert code == 0, output
    assert "lost before the run began: " in output
    assert not [r for r in of_kind(records(out), "decision") if r["body"]["what"] == "node_lost"]
