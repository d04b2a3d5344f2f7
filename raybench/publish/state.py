"""`publish.json`: how far each sink came, read by whoever started the publisher; and the publisher's lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from raybench.errors import PublishError
from raybench.locks import lock_fault, try_lock
from raybench.records import Record

STATE = "publish.json"
BEFORE = "publish.json.before"
"""The state as it was one write earlier: it holds the addresses of the views where a crash of the machine tore the
newer one, and without them the next publication would make a second report."""
LOCK = "publish.lock"
LOG = "publish.log"
"""What the publisher and the libraries of the sinks print."""
WANDB_FOLDER = "wandb"
"""Folder inside a run folder that holds everything that W&B writes."""

State = Literal["waiting", "running", "published", "failed"]
"""`waiting`: put off, because a raybench measures on the publisher's machine."""


class Published(Record):
    """What one publication to one sink brought, as read back from there."""

    runs: tuple[str, ...] = ()
    """Ids of the runs that are whole."""
    rows: int = 0
    """History rows that they hold together."""
    tables: int = 0
    """Tables that they hold together."""
    records: int = 0
    """Ledger records behind them."""
    closed: bool = False
    """False: the measured run still went on."""
    url: str | None = None
    """Where to look: the project's page, a folder, a command."""
    entity: str | None = None
    """Team or user that W&B stored it under; None offline."""
    workspace_url: str | None = None
    """W&B's workspace, updated in place by this address."""
    report_url: str | None = None
    """W&B's report, updated in place by this address."""
    views_error: str | None = None
    """Why the views could not be made; the results are published all the same."""


class SinkState(Record):
    """State of one sink."""

    state: State
    """running and no publisher at work: it was killed. published: read back and found whole."""
    mode: str = ""
    """offline or online; empty where a sink knows no modes."""
    error: str | None = None
    """What went wrong the last time; None if nothing did."""
    attempts: int = 0
    """Tries so far."""
    last: Published = Published()
    """The last publication that was whole; its addresses survive a later failure."""


class PublishState(Record):
    """All sinks of a run folder."""

    version: int = 1
    """Version of the file."""
    sinks: dict[str, SinkState] = {}
    """By name of the sink; a comparison of several run folders has an entry of its own."""


def write_state(folder: Path, name: str, state: SinkState) -> None:
    """Write one sink's entry; the file is whole or as it was, and what it was is kept beside it."""
    whole = PublishState(sinks=read_state(folder).sinks | {name: state})
    part = folder / f"{STATE}.part"
    with part.open("w", encoding="utf-8") as file:
        file.write(whole.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if _read(folder / STATE) is not None:
        (folder / STATE).replace(folder / BEFORE)
    part.replace(folder / STATE)


def read_state(folder: Path) -> PublishState:
    """The state, or the one before it where it is torn; empty where neither can be read."""
    return _read(folder / STATE) or _read(folder / BEFORE) or PublishState()


def _read(path: Path) -> PublishState | None:
    try:
        return PublishState.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextmanager
def publisher_lock(folder: Path) -> Iterator[None]:
    """Be the only publisher of a run folder: two writers of one run id overwrite each other. Raises PublishError."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise PublishError(f"{folder} cannot be written: {error.strerror}. Publish from where it can.") from error
    try:
        try:
            is_ours = try_lock(descriptor)
        except OSError as error:
            raise PublishError(
                f"{folder} cannot be locked: {lock_fault(error)}. Publish a copy of it on another file system."
            ) from error
        if not is_ours:
            raise PublishError(
                f"another publisher is at work on {folder}. Wait for it ({STATE} says how far it is), then try again."
            )
        yield
    finally:
        os.close(descriptor)
