"""Lines of the ledger."""

from typing import Literal

from pydantic import Field, JsonValue

from raybench.records.base import Record

LEDGER_VERSION = 1

Kind = Literal[
    "run", "plan", "node", "engine", "unit_started", "unit_done", "unit_failed", "sample", "decision", "calibration"
]


class LedgerRecord(Record):
    """One line of `ledger.jsonl`."""

    v: int = LEDGER_VERSION
    """Version of the format."""
    seq: int = Field(ge=0)
    """Place in the ledger, from 0, without a hole."""
    t: float
    """Wall clock of the driver when the line was written, seconds since 1970."""
    kind: Kind
    """What the body is."""
    key: str | None = None
    """Unit or sample key; None for records about the run, a node or an engine."""
    attempt: int | None = None
    """Attempt of the unit, from 1."""
    node: str | None = None
    """Short name of the node."""
    launch: str | None = None
    """Id of the physical engine start."""
    body: dict[str, JsonValue]
    """The record itself."""
    chain: str | None = None
    """Hash over the line before's and this line without it, so that an edit of the file shows; the journal sets it."""
