"""`ray job submit` against a head of its own in a pid namespace: exit codes, results, refusals, a stop that resumes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import ROOT, assert_each_attempt_ended_once, of_kind, records

from raybench.ledger.journal import Journal
from raybench.ledger.view import fold

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def namespace() -> list[str]:
    """Command prefix that gives a pid namespace, as root or as anybody."""
    for more in ([], ["--user", "--map-root-user"]):
        prefix = [*NAMESPACE, *more]
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        ):
            return prefix
    pytest.skip("this machine gives no pid namespace, outside of which a Ray head could not be ended for sure")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray's sockets allow 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="rj-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_jobs_end_with_the_drivers_exit_code_and_leave_what_they_measured(
    tmp_path, namespace, short_folder, config
) -> None:
    (tmp_path / "configs").mkdir()
    perf = [{"batch_sizes": [1, 2], "input_tokens": 64, "output_tokens": 32, "repeats": 1}]
    shutil.copy(config(perf=perf), tmp_path / "configs" / "small.yaml")
    shutil.copy(config(perf=[perf[0] | {"repeats": 500}]), tmp_path / "configs" / "long.yaml")
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_TMPDIR": str(short_folder), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as output:
        script = Path(__file__).with_name("ray_job_session.py")
        done = subprocess.run(
            [*namespace, sys.executable, str(script), str(tmp_path)], env=env, stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, check=False, timeout=500,
        )  # fmt: skip
    assert done.returncode == 0, log.read_text()
    jobs: dict[str, dict[str, Any]] = json.loads((tmp_path / "result.json").read_text())

    relative = jobs["relative"]
    assert (relative["status"], relative["driver_exit_code"], relative["command_exit_code"]) == ("FAILED", 10, None)
    assert "--out results is relative" in relative["log"]
    assert "python -m raybench run small.yaml --out /absolute/folder/small" in relative["log"]

    whole = jobs["whole"]
    assert (whole["status"], whole["driver_exit_code"], whole["command_exit_code"]) == ("SUCCEEDED", 0, 0), whole["log"]
    assert "3/3 units done" in whole["log"]
    assert json.loads((tmp_path / "whole" / "report.json").read_text())["verdict"] == "VALID"
    assert_each_attempt_ended_once(records(tmp_path / "whole"))

    assert jobs["stopped"]["status"] == "STOPPED"
    stopped = records(tmp_path / "stopped")
    last = of_kind(stopped, "decision")[-1]["body"]
    assert (last["what"], last["reason"]) == ("interrupted", "exit 143"), jobs["stopped"]["log"]
    assert_each_attempt_ended_once(stopped)
    journal, kept = Journal.resume(tmp_path / "stopped")
    journal.close()
    view = fold(kept)
    assert view.done and len(view.done) + len(view.missing_units()) == 2 * 500 + 1
