"""Whether a run still goes on: what its ledger's end and its lock say. Cheap enough to ask all the time."""

import json
import os
from pathlib import Path

from raybench.config.publish import PublishConfig
from raybench.ledger.bodies import RunBody
from raybench.ledger.journal import LEDGER, read
from raybench.ledger.view import fold
from raybench.locks import try_lock
from raybench.records import LedgerRecord

ENDS = ("end", "interrupted")
"""Decisions that close a session."""
TAIL_BYTES = 65536


def ended(records: tuple[LedgerRecord, ...]) -> bool:
    """True if the last session said that it is over."""
    for record in reversed(records):
        if record.kind == "run":
            return False
        if record.kind == "decision" and record.body.get("what") in ENDS:
            return True
    return False


def publish_settings(folder: Path) -> PublishConfig:
    """Settings of the last session, from its record alone: whoever supervises a publication needs no samples.

    Raises LedgerError, StorageError for a ledger that cannot be read.
    """
    try:
        with (folder / LEDGER).open("rb") as file:
            found = [json.loads(line) for line in file if b'"kind":"run"' in line]
        sessions = [record["body"] for record in found if record["kind"] == "run"]
        return RunBody.model_validate(sessions[-1]).config.publish
    except (OSError, ValueError, LookupError):
        return fold(read(folder)).config.publish  # which says what is wrong with it


def tail_ended(folder: Path) -> bool:
    """The same, by the last line of the file alone: cheap enough to ask all the time."""
    with (folder / LEDGER).open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        lines = file.read().split(b"\n")
    last = lines[-2] if len(lines) > 1 and not lines[-1] else b""
    return b'"kind":"decision"' in last and any(f'"what":"{what}"'.encode() in last for what in ENDS)


def being_written(folder: Path) -> bool:
    """True while a raybench holds the ledger's lock. Held by us for the blink of an eye in which we look."""
    descriptor = os.open(folder / LEDGER, os.O_RDONLY)
    try:
        return not try_lock(descriptor, alone=False)
    except OSError:
        return False  # a copy, on a file system without locks: no raybench can write there
    finally:
        os.close(descriptor)
