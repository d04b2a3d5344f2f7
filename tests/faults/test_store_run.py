"""A run whose folder is a URL: killed with SIGKILL, its spool lost with the machine, finished from the store."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import (
    LIMIT_S,
    ROOT,
    assert_each_attempt_ended_once,
    cli_run,
    command_line,
    finished,
    of_kind,
    records,
    results,
)

from raybench.driver.folder import spool_of
from raybench.driver.store import PARTS, WRITER, Store
from raybench.ledger.journal import LEDGER

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_run_on_a_store_outlives_its_driver_and_its_machine(cluster, config, tmp_path: Path, monkeypatch) -> None:
    url = f"file://{tmp_path}/bucket/run"
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    spool, store, there = spool_of(url), Store(url), tmp_path / "bucket" / "run"
    spool.parent.mkdir(parents=True)  # where the tests keep the runs' output
    words = (str(config()), "--address", cluster)
    with cli_run(spool, *words, "--out", url) as run:
        run.until(lambda: "raybench" in command_line(run.pid))  # not yet in the moment of its start
        run.until(lambda: len(store.names(PARTS)) > 2 and run.records() != [] and len(results(run.records())) > 2)
        run.send(signal.SIGKILL)
        run.wait()
    # What had gone up is a whole ledger at any time: every line of it reads, every row that it names lies beside it.
    kept = [json.loads(line) for line in store.ledger().splitlines()]
    for done in of_kind(kept, "unit_done"):
        assert done["body"]["kind"] != "perf" or (there / "requests" / f"{done['key']}.parquet").is_file()
    assert (there / WRITER).is_file(), "the mark of the dead writer"
    shutil.rmtree(spool)

    code, output = finished(spool, *words, "--resume", url)
    assert code == 0, output
    assert "another raybench has left its mark" in output
    assert f"report: {url}/report.md" in output
    found = [json.loads(line) for line in store.ledger().splitlines()]
    assert found == records(spool) and found[: len(kept)] == kept
    assert_each_attempt_ended_once(found)
    assert json.loads((there / "report.json").read_text())["verdict"] == "VALID"
    assert not (there / WRITER).exists()

    code, output = finished(spool, *words, "--out", url)
    assert (code, f"{url} already holds a ledger. Finish it with --resume {url}" in output) == (13, True), output


def test_a_reader_that_goes_away_costs_neither_the_measuring_nor_the_store(
    cluster, config, tmp_path: Path, monkeypatch
) -> None:
    """`raybench run ... | head -1`."""
    url = f"file://{tmp_path}/bucket/run"
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    words = [sys.executable, "-m", "raybench", "run", str(config()), "--address", cluster, "--out", url]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as run:
        assert run.stdout is not None
        assert run.stdout.readline()
        run.stdout.close()
        assert run.wait(LIMIT_S) == 1, "as any command whose output nobody takes"
    there = tmp_path / "bucket" / "run"
    assert json.loads((there / "report.json").read_text())["verdict"] == "VALID"
    assert Store(url).ledger() == (spool_of(url) / LEDGER).read_bytes()
    assert not (there / WRITER).exists()
