"""What is published, as plain data: the same for every sink, made from a ledger by pure functions."""

from dataclasses import dataclass, field
from typing import Literal

Scalar = str | int | float | bool
Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a run's history."""

    step: int
    """Place in the ledger, rising within a run: what makes a replay idempotent."""
    values: dict[str, Scalar]
    """What cannot change any more once the row may be sent: W&B never takes a row of a step a second time."""
    revisable: dict[str, Scalar] = field(default_factory=dict[str, Scalar])
    """What later load points or another session's settings may still change, findings and prices: for sinks that
    replace a run whole. Elsewhere the summary and the tables have it, which are sent anew each time."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; every column holds one type or None."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file of the artifact."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class RunContent:
    """Everything that one run of a sink holds."""

    id: str
    name: str
    group: str
    job_type: Literal["bench", "compare"]
    tags: tuple[str, ...]
    config: dict[str, Scalar]
    history: tuple[Row, ...]
    """Rows by rising step."""
    summary: dict[str, Scalar]
    last_step: int
    """Step under which tables and figures are logged; above all rows."""
    tables: tuple[Table, ...] = ()
    """Empty while the measured run still goes on."""
    attachments: tuple[Attachment, ...] = ()
    """Files of the artifact."""


@dataclass(frozen=True, slots=True)
class Publication:
    """All runs of one publication."""

    runs: tuple[RunContent, ...]
    """A run per target, then the comparison."""
    num_records: int
    """Ledger records behind it: what a reader of the sink holds against the ledger."""
    closed: bool
    """False: the measured run still goes on, and only rows and summaries are sent."""
