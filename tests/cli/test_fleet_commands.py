"""`raybench submit`, `status` and `doctor` as a user types them, without a cluster."""

import json
import subprocess
from pathlib import Path

import pytest
from cli.test_command_line import CONFIG, command
from ledger_builder import whole_ledger
from typer.testing import CliRunner

from raybench.cli import app
from raybench.driver import job
from raybench.driver.job import JobOrder
from raybench.driver.store import Store

NOBODY = ("--address", "http://127.0.0.1:1")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 10, "no --out was given, but a job's working folder is a copy that vanishes"),
        (["--out", "results"], 10, "--out results is relative, but a job's working folder"),
        (["--resume", "runs/x"], 10, "--resume runs/x is relative, but a job's working folder"),
        (["--out", "/a", "--resume", "/a"], 2, "leave --out away"),
        (["--out", "/a", "--target", "three"], 10, "known targets are one, two"),
        (["--out", "/a", "--set", "nmae=x"], 10, "found 'nmae'"),
        (["--out", "/a", "--earlier", "runs/x"], 10, "--earlier runs/x is relative, but the job does not see"),
        (["--out", "/a", "--env", "NO_SUCH_VARIABLE"], 10, "give --env NO_SUCH_VARIABLE=VALUE"),
        (["--out", "/a"], 20, "no job server answers at http://127.0.0.1:1: "),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_submitted(
    config: Path, words: list[str], code: int, message: str
) -> None:
    done = command("submit", str(config), *NOBODY, *words)
    assert (done.returncode, message in said(done)) == (code, True), said(done)
    assert "Traceback" not in done.stderr


def test_a_job_is_given_the_flags_of_run(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[JobOrder] = []

    def taken(_client: object, order: JobOrder, _say: object) -> None:
        orders.append(order)

    monkeypatch.setattr(job, "client_at", lambda *_: None)
    monkeypatch.setattr(job, "submit", taken)
    words = ["--start-with-fewer", "--earlier", "/shared/runs/a", "--earlier", "s3://bucket/b"]
    done = CliRunner().invoke(app, ["submit", str(config), "--out", "/shared/c", "--no-follow", *words])
    assert done.exit_code == 0, done.output
    assert orders[0].entrypoint[4:] == ("small.yaml", "--out", "/shared/c", *words)


def test_an_earlier_run_on_object_storage_predicts(config: Path, tmp_path: Path) -> None:
    ledger = (whole_ledger().write(tmp_path / "run") / "ledger.jsonl").read_bytes()
    store = Store(f"file://{tmp_path}/bucket/run")
    store.put("ledger/0000000000.jsonl", ledger)
    done = command("plan", str(config), "--estimate", "--earlier", store.url)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), said(done)
    done = command("plan", str(config), "--estimate", "--earlier", f"file://{tmp_path}/bucket/none")
    assert (done.returncode, "holds no ledger" in said(done)) == (13, True), said(done)


def test_status_of_a_run_folder_is_a_page_and_changes_nothing(tmp_path: Path) -> None:
    folder = whole_ledger().write(tmp_path / "run")
    before = (folder / "ledger.jsonl").read_bytes()
    done = command("status", str(folder), "--watch")
    assert done.returncode == 0, said(done)
    first, *rest = done.stdout.splitlines()
    assert first.startswith("study (study-1): ended, ")
    assert "  alpha static: 6/6 units" in rest and "  n0 H200: ready alpha" in done.stdout
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["ledger.jsonl"]


@pytest.mark.parametrize(
    ("run", "code", "message"),
    [
        ("runs/none", 13, "runs/none is no folder"),
        (f"./{'x' * 300}", 26, "File name too long"),
        ("raybench-x-1", 20, "no job server answers at http://127.0.0.1:1"),
    ],
)
def test_status_of_nothing_is_one_message(run: str, code: int, message: str) -> None:
    done = command("status", run, *NOBODY)
    assert (done.returncode, message in said(done)) == (code, True), said(done)


def test_status_and_report_read_a_run_folder_on_object_storage(tmp_path: Path) -> None:
    ledger = (whole_ledger().write(tmp_path / "run") / "ledger.jsonl").read_bytes()
    store = Store(f"file://{tmp_path}/bucket/run")
    cut = ledger.index(b"\n", len(ledger) // 2) + 1
    store.put("ledger/0000000000.jsonl", ledger[:cut])
    number = ledger[:cut].count(b"\n")
    store.put(f"ledger/{number:010d}.jsonl", ledger[cut:])
    done = command("status", store.url)
    assert (done.returncode, "study (study-1): ended" in done.stdout) == (0, True), said(done)
    for _ in range(2):
        done = command("report", store.url, "--regrade")
        assert done.returncode in (0, 32, 33), said(done)
        assert (store.get("report.md") or b"").startswith(b"#")
    assert "regrade: 0 samples moved since the last report" in done.stdout
    done = command("report", f"file://{tmp_path}/bucket/none")
    assert (done.returncode, "holds no ledger" in said(done)) == (13, True), said(done)


def test_doctor_ends_with_the_configurations_code(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"provider": {"type": "local"}}))
    done = command("doctor", "--cluster", str(path))
    assert done.returncode == 10 and "[schema]" in done.stdout and "Traceback" not in done.stderr, said(done)
