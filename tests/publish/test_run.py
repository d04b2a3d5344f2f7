"""`raybench run` with its publisher dead, hanging or refused: same report, same exit code; and curves that grow."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from cli_runs import CliRun, cli_run, wait_for
from publishers import KEY, access, assert_logged, assert_whole, logs_of, state
from wandb_service import Fault, WandbService, serving

from raybench.ledger.journal import LEDGER
from raybench.publish.source import read_source
from raybench.publish.state import BEFORE, LOCK, STATE
from raybench.publish.supervise import kill_tree
from raybench.publish.targets import target_runs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STUDY = """
name: small
model: {{path: org/some-model}}
engine:
  kind: simulated
  simulated:
    prefill_tok_per_s: {{1: 20000}}
    itl_ms: {{1: 10}}
    time_scale: {time_scale}
    accuracy: {{sums: 0.9}}
targets:
  - {{name: alpha, accelerator: H200}}
  - {{name: beta, accelerator: B200}}
perf:
  - {{batch_sizes: [1, 2, 3, 4, 6, 8], input_tokens: 100, output_tokens: 100, repeats: 1}}
evals:
  - {{name: sums, limit: 20, sampling: {{temperature: 0, max_tokens: 1024}}}}
publish:
  sinks: [wandb]
  wait_s: {wait_s}
  limit_s: {limit_s}
  follow: {follow}
  follow_every_s: 1
"""


@pytest.fixture
def service() -> Iterator[WandbService]:
    with serving() as made:
        yield made


@contextmanager
def run(path: Path, variables: dict[str, str], *, resume: bool = False, **settings: object) -> Iterator[CliRun]:
    """A small simulated study under way; what it leaves at work is ended with the test."""
    given = {"time_scale": 20, "wait_s": 1, "limit_s": 600, "follow": "false"} | settings
    study = path / "study.yaml"
    study.write_text(STUDY.format(**given))
    try:
        words = (str(study), "--resume" if resume else "--out", str(path / "run"), "--address", "local")
        with cli_run(path / "run", *words, **variables) as made:
            yield made
    finally:
        for each in psutil.process_iter(["cmdline"]):
            if str(path) in (each.info["cmdline"] or ()) or str(path / "run") in (each.info["cmdline"] or ()):
                kill_tree(each.pid)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> CliRun:
    """A run as the quickstart makes one: no account, no variable, nothing asked for."""
    path = tmp_path_factory.mktemp("plain")
    with run(path, {"WANDB_MODE": ""}, wait_s=300) as made:
        assert made.wait() == 0, made.output()
    return made


def test_a_run_leaves_offline_runs_that_hold_its_results(plain: CliRun) -> None:
    folder = plain.folder
    assert "3 offline runs with 12 rows" in plain.output()
    logs = {log.id: log for log in logs_of(folder)}
    wanted = target_runs(read_source(folder), "hashed")
    assert [run.id for run in wanted] == list(state(folder).last.runs[:2])
    for each in wanted:
        assert_logged(each, logs.pop(each.id))
        assert [row.values["perf/batch_size"] for row in each.history] == [1, 2, 3, 4, 6, 8]
        assert each.summary["eval/sums/n"] == 20
    (compared,) = logs.values()
    assert compared.job_type == "compare"
    assert {"compare/speedup/_type", "compare/accuracy/_type"} <= compared.summary.keys()


@contextmanager
def finished(path: Path, plain: CliRun, variables: dict[str, str], **settings: object) -> Iterator[CliRun]:
    """The plain run resumed with one unit missing, so that it measures, reports and publishes again."""
    folder = path / "run"
    shutil.copytree(plain.folder, folder, symlinks=True)
    shutil.rmtree(folder / "wandb")
    for name in (STATE, BEFORE, LOCK, "report.md"):
        (folder / name).unlink()
    lines = (folder / LEDGER).read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if b'"kind":"unit_done"' in line)
    (folder / LEDGER).write_bytes(b"".join(lines[:last]))
    with run(path, variables, resume=True, **settings) as made:
        yield made


def test_the_publisher_decides_neither_the_exit_code_nor_the_wait(
    tmp_path: Path, service: WandbService, plain: CliRun
) -> None:
    service.faults = [Fault(".", hang=True)]
    folder = tmp_path / "run"
    with finished(tmp_path, plain, access(service)) as hanging:
        # With a limit of 600 s, only `wait_s` can have ended the run's wait; it ends, or this test hangs.
        assert hanging.wait() == 0, hanging.output()
        assert time.time() - (folder / "report.md").stat().st_mtime < 300, "1 s, and whatever a busy machine adds"
        assert "publisher: still at work after 1 s" in hanging.output()
        assert "retry with: raybench publish" in hanging.output()
        assert "VALID" in (folder / "report.md").read_text()
        # The publisher goes on without the run. It began when the report was whole.
        wait_for(lambda: (folder / STATE).is_file() and bool(service.requests), hanging.output)
        assert state(folder).state == "running"
        assert (folder / LOCK).stat().st_ctime >= (folder / "report.md").stat().st_mtime


def test_a_service_that_refuses_changes_no_exit_code(tmp_path: Path, plain: CliRun) -> None:
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
    with finished(tmp_path, plain, nowhere, wait_s=300, limit_s=120) as refused:
        assert refused.wait() == 0, refused.output()
        assert state(tmp_path / "run").state == "failed"
        assert "W&B: not published" in refused.output()
        assert (tmp_path / "run" / "report.md").is_file()


def test_curves_grow_while_the_run_goes_on(tmp_path: Path, service: WandbService) -> None:
    sizes: list[int] = []
    with run(tmp_path, access(service), follow="true", time_scale=1, wait_s=300, limit_s=120) as live:

        def ended() -> bool:
            rows = sum("perf/batch_size" in row for each in list(service.runs.values()) for row in each.history)
            if rows not in sizes:
                sizes.append(rows)
            return not live.is_running

        wait_for(ended, live.output)
        assert live.wait() == 0, live.output()
        assert sizes == sorted(sizes)
        assert [size for size in sizes if 0 < size < 12], f"all rows came at once: {sizes}"
        assert sizes[-1] == 12
        assert_whole(tmp_path / "run", service)
        assert state(tmp_path / "run").attempts >= 3
        assert "W&B report: http" in live.output()
        holders = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
        assert holders == [], "the key is in no ledger, log or state"
