"""`raybench run` as a child process, watched through its ledger, interrupted, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import raybench
from raybench.engine.leftovers import left_overs, sweep

ROOT = Path(raybench.__file__).parent.parent
LIMIT_S = 900.0
"""Far beyond what anything here takes, the wait for another raybench on the host included: only a hang reaches it."""

Records = list[dict[str, Any]]


class CliRun:
    """One `raybench run` in a process group of its own, as a shell starts it."""

    def __init__(self, folder: Path, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.folder = folder
        self._log = folder.with_name(f"{folder.name}.{time.monotonic_ns()}.log")
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "raybench", "run", *words], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, env=os.environ | {"COLUMNS": "200"} | dict(env),
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._child.pid

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def records(self) -> Records:
        return records(self.folder)

    @property
    def run_id(self) -> str:
        return self.records()[0]["body"]["run_id"]

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait for something; fails with the run's output when the run ends first."""
        wait_for(lambda: happened() or self._child.poll() is not None, self.output)
        assert happened(), f"the run ended with {self._child.returncode}:\n{self.output()}"

    def until_done(self, num_units: int) -> None:
        self.until(lambda: len(results(self.records())) >= num_units)

    def send(self, number: signal.Signals) -> None:
        """To the driver alone, as `kill` does."""
        self._child.send_signal(number)

    def ctrl_c(self) -> None:
        """To everything in the foreground, as a terminal does."""
        os.killpg(self._child.pid, signal.SIGINT)

    def wait(self) -> int:
        try:
            return self._child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end:\n{self.output()}") from None

    @property
    def is_running(self) -> bool:
        return self._child.poll() is None

    def children(self, words: str) -> list[int]:
        """Processes below the driver whose command line holds the words."""
        return [pid for pid in descendants(self._child.pid) if words in command_line(pid)]

    def close(self) -> None:
        if self._child.poll() is None:
            for pid in (*descendants(self._child.pid), self._child.pid):
                kill(pid)
        self._child.wait()
        if (self.folder / "ledger.jsonl").is_file() and self.records():
            sweep(self.run_id)


@contextmanager
def cli_run(folder: Path, *words: str, **env: str) -> Iterator[CliRun]:
    """A running `raybench run WORDS` whose run folder is `folder`."""
    run = CliRun(folder, words, env)
    try:
        yield run
    finally:
        run.close()


def finished(folder: Path, *words: str, **env: str) -> tuple[int, str]:
    """A `raybench run` to its end: (exit code, output)."""
    with cli_run(folder, *words, **env) as run:
        return run.wait(), run.output()


def records(folder: Path) -> Records:
    """Whole lines of the ledger so far."""
    path = folder / "ledger.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.is_file() else []


def of_kind(found: Records, *kinds: str) -> Records:
    return [record for record in found if record["kind"] in kinds]


def results(found: Records) -> Records:
    """Records of perf and eval units that are done; checks bring no results."""
    return [record for record in of_kind(found, "unit_done") if record["body"]["kind"] != "check"]


def checks(found: Records) -> Records:
    """Records of preflight checks that are done."""
    return [record for record in of_kind(found, "unit_done") if record["body"]["kind"] == "check"]


def survivors(run_id: str) -> list[str]:
    """Processes that carry the run's mark."""
    return [f"{left.pid} {left.name} {command_line(left.pid)}" for left in left_overs(run_id)]


def assert_none_survives(run_id: str) -> float:
    """Wait until no process with the run's mark is left; returns how many seconds that took."""
    began = time.monotonic()
    wait_for(lambda: not survivors(run_id), lambda: "\n".join(survivors(run_id)))
    return time.monotonic() - began


def assert_each_attempt_ended_once(found: Records) -> None:
    """Every (key, attempt) of a ledger ends once, every sample has one record, and only started attempts are done."""
    ended = [(r["key"], r["attempt"]) for r in of_kind(found, "unit_done", "unit_failed")]
    assert len(ended) == len(set(ended))
    started = {(r["key"], r["attempt"]) for r in of_kind(found, "unit_started")}
    assert started <= set(ended)
    assert {(r["key"], r["attempt"]) for r in of_kind(found, "unit_done")} <= started
    samples = [r["key"] for r in of_kind(found, "sample")]
    assert len(samples) == len(set(samples))
    assert [r["seq"] for r in found] == list(range(len(found)))


def num_prompts(found: Records) -> int:
    """Prompts behind the results of these records: every pass of every unit that is done, every sample, every
    check.
    """
    passes = sum(
        part["num_requests"]
        for record in of_kind(found, "unit_done")
        if record["body"]["kind"] == "perf"
        for part in (record["body"]["measured"], *record["body"]["warm_up"])
    )
    asked = sum(record["body"]["num_requests"] for record in checks(found))
    return passes + asked + len(of_kind(found, "sample"))


def wait_for(happened: Callable[[], bool], otherwise: Callable[[], str] = str) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > limit_s:
            raise AssertionError(f"did not happen within {LIMIT_S:.0f} s: {otherwise()}")
        time.sleep(0.02)


def descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
