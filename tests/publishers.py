"""Publishing of made-up runs, as tests of the sinks and of their service need it."""

import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ledger_builder import LedgerBuilder, config, whole_ledger
from wandb_service import WandbService

from raybench import process
from raybench.ledger.journal import LEDGER
from raybench.publish.content import RunContent
from raybench.publish.settings import Flags
from raybench.publish.source import read_source
from raybench.publish.state import SinkState, read_state
from raybench.publish.supervise import Order, supervise
from raybench.publish.targets import target_runs
from raybench.publish.wandb_log import WandbLog, read_log

KEY = "5ec2e7" * 7
"""As long as a real one."""


def run_folder(path: Path, **publish: object) -> Path:
    """A whole run whose configuration asks for W&B."""
    return builder_of(**publish).write(path / "run")


def builder_of(**publish: object) -> LedgerBuilder:
    """The same before it is written."""
    return whole_ledger(config(publish={"sinks": ["wandb"], **publish}))  # type: ignore[dict-item]


GROWS_BY = tuple(f"alpha-static-b{size}-r{repeat}-l0" for size in (1, 4, 16) for repeat in (0, 1))
"""Units of `grown` that come back one by one, each in a session of its own."""


def grown(num_sessions: int, **publish: object) -> LedgerBuilder:
    """A run after some sessions, each of which left a new row, new tables and another artifact behind."""
    settings = config(publish={"sinks": ["wandb"], **publish})  # type: ignore[dict-item]
    builder = whole_ledger(settings, skip=lambda key: key in GROWS_BY[1:])
    units = {unit.key: unit for unit in builder.plan.units}
    for number, key in enumerate(GROWS_BY[1 : num_sessions + 1]):
        builder.session(number + 1)
        builder.perf_done(units[key], "n0.0")  # type: ignore[arg-type]
        builder.end()
    return builder


def access(service: WandbService) -> dict[str, str]:
    """Variables under which W&B's client finds the service."""
    return {"WANDB_BASE_URL": service.base, "WANDB_API_KEY": KEY, "WANDB_MODE": "online", "WANDB_ENTITY": "team"}


@dataclass
class Told:
    """How a publication ended, and what its user read."""

    ok: bool = False
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def publish(
    folders: Path | tuple[Path, ...], variables: Mapping[str, str], *, follow: bool = False, told: Told | None = None,
    **flags: str,
) -> Told:  # fmt: skip
    """What `raybench publish` does after its command line is read; the publishing processes are real ones."""
    order = Order(folders if isinstance(folders, tuple) else (folders,), Flags.model_validate(flags), follow)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    told = told or Told()
    told.ok = supervise(order, plain | dict(variables), told.lines.append)
    return told


def command(*words: str | Path, **variables: str) -> tuple[int, str]:
    """`raybench publish` as a command; (exit code, output)."""
    env = process.child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables)
    return process.run([sys.executable, "-m", "raybench", "publish", *map(str, words)], env=env, timeout_s=300)


def publishing(folder: Path) -> list[psutil.Process]:
    """Publishing processes of a run folder."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if (each.info["cmdline"] or [])[-2:] == ["raybench.publish", str(folder)]]


@contextmanager
def writing(folder: Path) -> Iterator[int]:
    """Hold the ledger as a run does that goes on."""
    descriptor = os.open(folder / LEDGER, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def state(folder: Path, sink: str = "wandb") -> SinkState:
    """What `publish.json` says of a sink."""
    return read_state(folder).sinks[sink]


def assert_whole(folder: Path, service: WandbService) -> None:
    """The service holds what the ledger says, once: nothing lost, nothing doubled."""
    for run in target_runs(read_source(folder), "hashed"):
        there = service.named(run.id)
        rows = [row for row in there.history if "perf/batch_size" in row]
        assert [row["_step"] for row in rows] == [row.step for row in run.history]
        # Of a point that was sent before it was whole, the later row counts; the earlier one says what was known then.
        latest = {
            wanted.values["perf/batch_size"]: (row, wanted) for row, wanted in zip(rows, run.history, strict=True)
        }
        stale = {
            f"{size} {name}": (row.get(name), value)
            for size, (row, wanted) in latest.items()
            for name, value in wanted.values.items()
            if row.get(name) != value
        }
        assert stale == {}
        assert there.summary.items() >= run.summary.items()
        assert {table.name for table in run.tables} <= there.summary.keys()
        assert there.state == "finished"
        assert there.fields["groupName"] == run.group
    versions = [each for each in service.artifacts.values() if each["collection"].endswith("-compare-raw")]
    assert {each["state"] for each in versions} == {"COMMITTED"}, "one version for each time that the ledger had grown"


def logs_of(folder: Path) -> list[WandbLog]:
    """The offline runs of a run folder."""
    return [read_log(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def assert_logged(run: RunContent, log: WandbLog, project: str = "raybench") -> None:
    """An offline run holds history, summary, configuration, group and tags as the ledger says."""
    assert (log.project, log.name, log.group, log.job_type) == (project, run.name, run.group, "bench")
    assert sorted(log.tags) == sorted(run.tags)
    rows = [row for row in log.history if "perf/batch_size" in row]
    assert [{k: v for k, v in row.items() if k != "_step"} for row in rows] == [row.values for row in run.history]
    assert [row["_step"] for row in rows] == [row.step for row in run.history]
    assert {f"{table.name}/_type" for table in run.tables} <= log.summary.keys()
    assert log.summary.items() >= run.summary.items()
    assert log.config.items() >= run.config.items()
    assert log.step_metrics["perf/*"] == "perf/batch_size"
    assert (log.host, log.exit_code) == ("raybench", 0)
