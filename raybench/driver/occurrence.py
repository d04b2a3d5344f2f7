"""Something that happened to the fleet, and what it leaves in the ledger."""

from dataclasses import dataclass

from pydantic import BaseModel

from raybench.plan.events import Event
from raybench.records import Kind


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to be written."""

    kind: Kind
    body: BaseModel
    key: str | None = None
    attempt: int | None = None
    rows: bytes | None = None
    """Per-request rows to be written before the record."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened: what it tells the dispatcher, and what it leaves in the ledger."""

    event: Event | None
    """None = only a line of progress."""
    entries: tuple[Entry, ...] = ()
    node: str | None = None
    start: str | None = None
    line: str | None = None
    """For the screen."""
    bug: BaseException | None = None
    """A fault of ours that must end the run instead of letting it wait for ever."""
    unit: str | None = None
    """Key of the unit of which the line tells; it is not stuck."""
