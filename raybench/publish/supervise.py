"""Supervises the publishing processes of a run folder: one at a time, each with a wall limit, their state on disk.

Loads no library of a sink, waits for none, and its own end takes the publishing process with it.
"""

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from raybench import process
from raybench.config.publish import PublishConfig, SinkName
from raybench.errors import EngineRefused, PublishError, StorageError
from raybench.ledger.journal import LEDGER
from raybench.node.host import host_is_measured
from raybench.publish.job import Answer, Job, answer_path, job_path
from raybench.publish.settings import Flags, active, settle
from raybench.publish.state import LOG, Published, SinkState, publisher_lock, read_state, write_state
from raybench.publish.writing import being_written, publish_settings, tail_ended

POLL_S = 0.2
PATIENCE_S = 3600.0
"""How long a publication waits for a machine on which somebody measures."""
TITLES: dict[SinkName, str] = {"wandb": "W&B", "parquet": "Parquet", "trackio": "trackio", "mlflow": "MLflow"}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    folders: tuple[Path, ...]
    """Run folders; several: their comparison."""
    flags: Flags
    follow: bool = False
    """Publish again and again until the run is over."""


def supervise(order: Order, environment: Mapping[str, str], say: Say) -> bool:
    """Publish to every sink; True if all of it was read back. Raises PublishError, LedgerError, StorageError."""
    folder = order.folders[0]
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {error.strerror}.") from error
    if not is_folder:
        raise PublishError(f"{folder} is no folder. A run folder is what `raybench run` printed as its results.")
    try:
        return _supervise(order, environment, say)
    except OSError as error:
        # A full disk, say: the state could not be written either, so that this line is all that tells of it.
        raise PublishError(
            f"{folder} cannot be written ({error.strerror}); nothing is lost, retry with: {retry(order)}"
        ) from error


def _supervise(order: Order, environment: Mapping[str, str], say: Say) -> bool:
    folder = order.folders[0]
    with publisher_lock(folder):
        if order.follow and not _wait_for_plan(folder):
            raise PublishError(f"{folder}: the run ended before it had a plan; there is nothing to publish.")
        configured = publish_settings(folder)
        settings = settle(configured, order.flags, environment)
        sinks = active(settings)
        if not sinks:
            raise PublishError("W&B is disabled, and no other sink is asked for; say --mode offline or --mode online.")
        if order.follow:
            _follow(order, settings, environment)
        results = [_settle(order, name, settings, environment, say) for name in sinks]
    for name, state in zip(sinks, results, strict=True):
        say(words(order, name, state))
    return all(state.state == "published" for state in results)


def entry(order: Order, name: SinkName) -> str:
    """Name of the entry in the state file."""
    # Seen from the first folder's place: two runs of the same name lie in different places.
    first = order.folders[0].absolute()
    others = " ".join(os.path.relpath(folder.absolute(), first.parent) for folder in order.folders[1:])
    return f"{name} against {others}" if others else name


def words(order: Order, name: SinkName, state: SinkState) -> str:
    """One line for people: where it is, or what went wrong and how to try again."""
    if state.state != "published":
        reason = (state.error or "ended").splitlines()[0]
        return f"{TITLES[name]}: not published ({reason}); retry with: {retry(order, name)}"
    done = state.last
    mode = f"{state.mode} " if state.mode else ""
    line = f"{TITLES[name]}: {len(done.runs)} {mode}runs with {done.rows} rows: {done.url}"
    if state.mode == "offline":
        online = replace(order, flags=order.flags.model_copy(update={"mode": "online"}))
        line += f" (send them with: {retry(online, name)})"
    if done.report_url and state.mode == "online":
        line += f"\n{TITLES[name]} report: {done.report_url}"
    if done.workspace_url and state.mode == "online":
        line += f"\n{TITLES[name]} workspace: {done.workspace_url}"
    if done.views_error:
        line += f"\n{TITLES[name]}: published, but without views ({done.views_error.splitlines()[0]})"
    return line


def retry(order: Order, name: SinkName | None = None) -> str:
    """The command that tries again."""
    flags = order.flags
    parts = ["raybench", "publish", *(["--compare"] if len(order.folders) > 1 else []), *map(str, order.folders)]
    if name:
        parts += ["--sink", name]
    for option in ("mode", "project", "entity", "attempt"):
        value = getattr(flags, option)
        if value:
            parts += [f"--{option}", value]
    return shlex.join(parts)


def _wait_for_plan(folder: Path) -> bool:
    """Wait until the ledger holds a plan; False when whoever started us is gone before."""
    parent = os.getppid()
    while os.getppid() == parent:
        ledger = folder / LEDGER
        if ledger.is_file() and b'"kind":"plan"' in ledger.read_bytes():
            return True
        time.sleep(POLL_S)
    return False


def _follow(order: Order, settings: PublishConfig, environment: Mapping[str, str]) -> None:
    """Publish the growing run until nobody writes its ledger any more. The last, whole publication is the caller's."""
    folder = order.folders[0]
    online = "wandb" in active(settings) and settings.wandb.mode == "online"
    sent_bytes, due = 0, 0.0
    while not tail_ended(folder):
        if time.monotonic() >= due:
            if not being_written(folder):
                return
            size = (folder / LEDGER).stat().st_size
            if not online or size == sent_bytes:
                due = time.monotonic() + settings.follow_every_s
            elif not _is_measured():
                state = _publish(order, "wandb", settings, environment, live=True)
                sent_bytes = size if state.state == "published" else sent_bytes
                due = time.monotonic() + settings.follow_every_s
        time.sleep(POLL_S)


def _settle(
    order: Order, name: SinkName, settings: PublishConfig, environment: Mapping[str, str], say: Say
) -> SinkState:
    """Publish what is there, when nobody measures on this machine: another raybench may, when our run is long over."""
    deadline, told = time.monotonic() + PATIENCE_S, False
    while True:
        if not _is_measured():
            state = _publish(order, name, settings, environment, live=False)
            if state.state != "waiting":
                return state
        if not told:
            say(f"{TITLES[name]}: waiting, a raybench measures on this host")
            told = True
        if time.monotonic() > deadline:
            before = read_state(order.folders[0]).sinks.get(entry(order, name), SinkState(state="waiting"))
            error = f"a raybench has measured on this host for {PATIENCE_S:g} s"
            late = before.model_copy(update={"state": "failed", "error": error})
            write_state(order.folders[0], entry(order, name), late)
            return late
        time.sleep(POLL_S)


def _is_measured() -> bool:
    try:
        return host_is_measured()
    except EngineRefused as error:
        raise PublishError(error.message) from error


def _publish(
    order: Order, name: SinkName, settings: PublishConfig, environment: Mapping[str, str], *, live: bool
) -> SinkState:
    """One try at one sink, from the state before to the state after; `waiting` where a measurement put it off."""
    folder, key = order.folders[0], entry(order, name)
    before = read_state(folder).sinks.get(key, SinkState(state="waiting"))
    mode = settings.wandb.mode if name == "wandb" else ""
    running = before.model_copy(
        update={"state": "running", "mode": mode, "error": None, "attempts": before.attempts + 1}
    )
    write_state(folder, key, running)
    job = Job(
        folders=tuple(str(each.absolute()) for each in order.folders), sink=name, settings=settings,
        attempt=order.flags.attempt, known=before.last, live=live,
    )  # fmt: skip
    answer = _run(folder, job, environment)
    if answer is None:
        after = before.model_copy(update={"state": "waiting"})
    elif answer.published is None:
        after = running.model_copy(update={"state": "failed", "error": answer.error or "ended without an answer"})
    else:
        after = running.model_copy(update={"state": "published", "last": _kept(answer.published, before.last)})
    write_state(folder, key, after)
    return after


def _kept(now: Published, before: Published) -> Published:
    """Addresses of views that this publication did not make stay known."""
    return now.model_copy(
        update={
            "workspace_url": now.workspace_url or before.workspace_url,
            "report_url": now.report_url or before.report_url,
        }
    )


def _run(folder: Path, job: Job, environment: Mapping[str, str]) -> Answer | None:
    """The publishing process, killed with everything below it at its wall limit.

    None = put off: a measurement began on this machine, which a publisher must not spoil. A replay makes up for it.
    """
    job_path(folder).parent.mkdir(exist_ok=True)
    job_path(folder).write_text(job.model_dump_json(), encoding="utf-8")
    answer_path(folder).unlink(missing_ok=True)
    argv = [sys.executable, "-m", "raybench.publish", str(folder.absolute())]
    limit_s = job.settings.limit_s
    with (
        (folder / LOG).open("ab") as log,
        # What W&B copies there, samples among it, would stay behind where a publisher is killed. A short name: paths of
        # sockets lie below it.
        tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as scratch,
    ):
        env = child_environment(environment) | {"TMPDIR": scratch}
        child = process.start_tied(argv, env=env, cwd=folder, log=log)
        deadline = time.monotonic() + limit_s
        while child.poll() is None and time.monotonic() < deadline and not _is_measured():
            time.sleep(POLL_S / 4)
        if child.poll() is None:
            kill_tree(child.pid)
            child.wait()
            return None if time.monotonic() < deadline else Answer(error=f"not done within {limit_s:g} s, and ended")
        code = child.wait()
    try:
        return Answer.model_validate_json(answer_path(folder).read_bytes())
    except (OSError, ValueError):
        return Answer(error=f"the publisher ended with {code}; its output is in {LOG}")


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment of a publisher: the usual whitelist, W&B's and MLflow's variables, our own import path."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    access = {
        name: value
        for name, value in environment.items()
        if name.startswith(("WANDB_", "MLFLOW_", "HF_TOKEN", "NETRC"))
    }
    return process.child_environment({"PYTHONPATH": path} | access, environment)


def kill_tree(pid: int) -> None:
    """Kill a process and everything that it started; W&B's service lives in a session of its own."""
    try:
        root = psutil.Process(pid)
        below: Sequence[psutil.Process] = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for each in (root, *below):
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
