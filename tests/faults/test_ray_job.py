"""`ray job submit` and `raybench submit` against a head of its own in a pid namespace: exit codes, results, refusals,
a stop and a kill that resume."""

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
from cli_runs import ROOT, assert_each_attempt_ended_once, of_kind, records, results

from raybench.ledger.journal import Journal
from raybench.ledger.view import fold

# Seven jobs, each of them four fresh interpreters: two minutes on an idle machine, many on a busy one.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

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
    for name, repeats in (("medium", 12), ("long", 500)):
        shutil.copy(config(perf=[perf[0] | {"repeats": repeats}]), tmp_path / "configs" / f"{name}.yaml")
    faults = {"faults": {"early_stop_fraction": 1}}
    shutil.copy(config(faults, perf=perf, evals=None), tmp_path / "configs" / "invalid.yaml")
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_TMPDIR": str(short_folder), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as output:
        script = Path(__file__).with_name("ray_job_session.py")
        done = subprocess.run(
            [*namespace, sys.executable, str(script), str(tmp_path)], env=env, stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, check=False, timeout=1700,
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

    check_submitted(jobs, tmp_path / "medium")
    check_watched(jobs, tmp_path / "long")


def check_submitted(jobs: dict[str, dict[str, Any]], folder: Path) -> None:
    """`raybench submit`: the driver's own exit codes; a stop and a SIGKILL that lose nothing."""
    invalid = jobs["invalid"]
    assert invalid["exit_code"] == 30, invalid["output"]
    assert "RED Requests failed or replies had the wrong length: one one-batch batch 1, repeat 1" in invalid["output"]
    assert "the driver has ended with 30" in invalid["output"]

    stopped = jobs["stopped"]
    assert stopped["exit_code"] == 143, stopped["output"]
    assert stopped["job"]["status"] == "STOPPED"
    # The whole drain and the report fitted into the grace: Ray's own three seconds end in a SIGKILL.
    assert "SIGTERM: ending; everything measured is kept" in stopped["output"]
    assert "report: " in stopped["output"]
    metadata = stopped["job"]["metadata"]
    assert metadata["run_folder"] == str(folder)
    assert metadata["config_digest"] == records(folder)[0]["body"]["config_digest"]

    killed = jobs["killed"]
    assert killed["exit_code"] == 137, killed["output"]
    assert "the driver was ended by signal 9; what it had measured is kept" in killed["output"]
    assert (
        f"raybench submit medium.yaml --address http://127.0.0.1:{port(killed)} --resume {folder}" in killed["output"]
    )

    assert jobs["resumed"]["exit_code"] == 0, jobs["resumed"]["output"]
    found = records(folder)
    assert_each_attempt_ended_once(found)
    interrupted, ended = (r["body"] for r in of_kind(found, "decision") if r["body"]["what"] in ("interrupted", "end"))
    assert (interrupted["reason"], ended["reason"]) == ("exit 143", "exit 0")
    assert json.loads((folder / "report.json").read_text())["verdict"] == "VALID"
    assert stopped["num_units_done"] < killed["num_units_done"] < len(of_kind(found, "unit_done"))
    # Nothing that was done was done again.
    done = [record["key"] for record in results(found)]
    assert len(done) == len(set(done)) == 2 * 12 + 1


def check_watched(jobs: dict[str, dict[str, Any]], folder: Path) -> None:
    """Ctrl-C in front of a job ends the view and says what to do; `raybench status` looks at the job."""
    left, look, gone = jobs["left"], jobs["look"], jobs["gone"]
    assert (left["exit_code"], left["status"]) == (130, "RUNNING"), left["output"]
    assert "the job goes on. Look at it: raybench status raybench-small-" in left["output"]
    assert "stop it (it drains for up to 120 s and can be resumed): ray job stop raybench-small-" in left["output"]
    assert look["exit_code"] == 0, look["output"]
    assert "RUNNING" in look["output"] and "n0 CPU: " in look["output"] and "findings so far" in look["output"]
    assert gone["exit_code"] == 0, gone["output"]
    assert "STOPPED, the job was stopped (exit code 143)" in gone["output"] and "interrupted, " in gone["output"]
    journal, kept = Journal.resume(folder)
    journal.close()
    view = fold(kept)
    assert view.done and len(view.done) + len(view.missing_units()) == 2 * 500 + 1


def port(job: dict[str, Any]) -> str:
    return job["output"].split("on http://127.0.0.1:", 1)[1].split(":", 1)[0]
