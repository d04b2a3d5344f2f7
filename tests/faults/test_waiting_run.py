"""Machines that a real cluster lacks: waited for with a limit, then told in the table."""

import signal
from pathlib import Path

import pytest
from cli_runs import cli_run, finished

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_what_never_comes_is_waited_for_until_the_limit(cluster, config, tmp_path: Path) -> None:
    targets = [{"name": "h", "accelerator": "H200", "nodes": 2, "gpus_per_node": 8}]
    study = config(targets=targets, engine={"kind": "sglang"}, evals=None)
    words = (str(study), "--address", cluster, "--out", str(tmp_path / "run"))
    code, output = finished(tmp_path / "run", *words, "--wait-for-nodes-s", "3")
    assert code == 20, output
    assert (
        "waiting for machines (0 of 3 s): H200: 2 machine(s) with 8 GPU(s) asked (targets h), 0 in the cluster"
        in output
    )
    assert "after 3 s of waiting the cluster cannot meet the demands of the configuration" in output
    assert not (tmp_path / "run" / "ledger.jsonl").exists()


def test_sigterm_ends_the_wait_with_its_exit_code(cluster, config, tmp_path: Path) -> None:
    targets = [{"name": "h", "accelerator": "H200", "nodes": 2, "gpus_per_node": 8}]
    study = config(targets=targets, engine={"kind": "sglang"}, evals=None)
    words = (str(study), "--address", cluster, "--out", str(tmp_path / "run"), "--wait-for-nodes-s", "600")
    with cli_run(tmp_path / "run", *words) as run:
        run.until(lambda: "waiting for machines" in run.output())
        run.send(signal.SIGTERM)
        assert run.wait() == 143, run.output()
        assert "Traceback" not in run.output()
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
