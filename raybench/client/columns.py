"""Results of a load as columns: a million requests are arrays, not objects.

All times are nanoseconds of `time.perf_counter_ns`; -1 = never happened, or not said.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raybench.client.decode import Reply

Ints = NDArray[np.int64]

NEVER = -1
STATUSES = ("ok", "http_error", "timeout", "cut", "unsent")
"""How a request ended, by its code in `LoadColumns.status`. `cut` includes streams that ended without a token: a first
token that never came has no time, least of all 0."""
OK, HTTP_ERROR, TIMEOUT, CUT, UNSENT = range(5)


@dataclass(frozen=True, slots=True)
class LoadColumns:
    """One entry a request, and beside it the reads that brought tokens."""

    index: Ints
    """Place in the schedule."""
    chain: Ints
    """Chain of the request; -1 = none."""
    scheduled_ns: Ints
    """When it was due: its own time, for chains the end of the one before plus the pause."""
    sent_ns: Ints
    """Right before its bytes went to the socket."""
    first_byte_ns: Ints
    """First read of its answer."""
    first_ns: Ints
    """Read of its first token."""
    end_ns: Ints
    """Read of its last token, or the moment of its failure."""
    status: Ints
    """Place in `STATUSES`."""
    http_status: Ints
    """Status of the answer."""
    input_tokens: Ints
    """Prompt tokens as the server counted them."""
    output_tokens: Ints
    """Reply tokens as the server counted them."""
    cached_tokens: Ints
    """Prompt tokens from the prefix cache."""
    first_tokens: Ints
    """Tokens of the first read."""
    counted: Ints
    """1: the server said how many tokens each read brought. 0: only how many there were; they are spread evenly."""
    longest_gap_ns: Ints
    """Longest time between two reads with tokens."""
    queue_ns: Ints
    """Time in the server's queue."""
    retractions: Ints
    """Times that the scheduler took it back."""
    in_flight: Ints
    """Requests of this process under way when it was sent, itself included."""
    process: Ints
    """Client process that sent it."""
    finish_reasons: tuple[str | None, ...]
    """Why each ended."""
    errors: dict[int, str]
    """Error messages by place in the schedule, the first ones only."""
    starts: Ints
    """First of its reads for every request, and at the end the number of all reads."""
    read_ns: Ints
    """Time of every read that brought tokens."""
    read_tokens: Ints
    """Tokens that it brought; see `counted`."""

    @property
    def num(self) -> int:
        """Requests."""
        return len(self.index)


INTEGERS = tuple(field.name for field in fields(LoadColumns) if field.name not in (
    "finish_reasons", "errors", "starts", "read_ns", "read_tokens"
))  # fmt: skip
MAX_ERRORS = 100
"""Error messages that are kept."""


class ColumnBuilder:
    """Grows columns request by request."""

    def __init__(self, process: int = 0) -> None:
        self._process = process
        self._columns = {name: array("q") for name in INTEGERS}
        self._finish_reasons: list[str | None] = []
        self._errors: dict[int, str] = {}
        self._starts, self._read_ns, self._read_tokens = array("q", [0]), array("q"), array("i")

    def add(self, known: dict[str, int], times_ns: Sequence[int], reply: Reply | None, error: str | None) -> None:
        """Add a request: what the executor knows, the times of its reads, and what they brought."""
        reads = [] if reply is None else [times_ns[place] for place in reply.reads]
        tokens = [] if reply is None else spread(reply)
        row = dict.fromkeys(INTEGERS, NEVER) | known
        if times_ns:
            row["first_byte_ns"] = times_ns[0]
        if reply is not None:
            row["input_tokens"] = _said(reply.prompt_tokens)
            row["output_tokens"] = _said(reply.output_tokens)
            row["cached_tokens"] = _said(reply.cached_tokens)
            row["queue_ns"] = NEVER if reply.queue_s is None else round(reply.queue_s * 1e9)
            row["retractions"] = reply.num_retractions
            row["counted"] = int(reply.counted)
        if reads:
            row["first_ns"] = reads[0]
            row["first_tokens"] = tokens[0]
            row["longest_gap_ns"] = max((b - a for a, b in pairwise(reads)), default=NEVER)
            if row["status"] == OK:
                row["end_ns"] = reads[-1]
        row["process"] = self._process
        for name, column in self._columns.items():
            column.append(row[name])
        self._finish_reasons.append(None if reply is None else reply.finish_reason)
        if error is not None and len(self._errors) < MAX_ERRORS:
            self._errors[known["index"]] = error
        self._read_ns.extend(reads)
        self._read_tokens.extend(b - a for a, b in zip([0, *tokens], tokens, strict=False))
        self._starts.append(len(self._read_ns))

    def build(self) -> LoadColumns:
        """The columns, in the order of the schedule."""
        return _ordered(
            LoadColumns(
                **{name: np.array(column, np.int64) for name, column in self._columns.items()},
                finish_reasons=tuple(self._finish_reasons), errors=self._errors,
                starts=np.array(self._starts, np.int64), read_ns=np.array(self._read_ns, np.int64),
                read_tokens=np.array(self._read_tokens, np.int64),
            )
        )  # fmt: skip


def spread(reply: Reply) -> list[int]:
    """Tokens after each read: as counted, else the tokens of the whole reply spread over its chunks evenly."""
    if reply.counted or not reply.tokens or reply.output_tokens is None:
        return reply.tokens
    share = reply.output_tokens / reply.tokens[-1]
    return [round(chunks * share) for chunks in reply.tokens]


def _said(count: int | None) -> int:
    return NEVER if count is None else count


def joined(parts: Sequence[LoadColumns]) -> LoadColumns:
    """Columns of several client processes as one, in the order of the schedule."""
    starts = [np.zeros(1, np.int64)]
    for part in parts:
        starts.append(part.starts[1:] + starts[-1][-1])
    errors: dict[int, str] = {}
    for part in parts:
        errors |= part.errors
    return _ordered(
        LoadColumns(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in INTEGERS},
            finish_reasons=tuple(reason for part in parts for reason in part.finish_reasons),
            errors=errors, starts=np.concatenate(starts),
            read_ns=np.concatenate([part.read_ns for part in parts]),
            read_tokens=np.concatenate([part.read_tokens for part in parts]),
        )
    )  # fmt: skip


def _ordered(columns: LoadColumns) -> LoadColumns:
    order = np.argsort(columns.index, kind="stable")
    if np.array_equal(order, np.arange(len(order))):
        return columns
    lengths = np.diff(columns.starts)[order]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    # Where each read of the new order stood before.
    reads = np.repeat(columns.starts[:-1][order] - starts[:-1], lengths) + np.arange(starts[-1])
    return LoadColumns(
        **{name: getattr(columns, name)[order] for name in INTEGERS},
        finish_reasons=tuple(columns.finish_reasons[place] for place in order), errors=columns.errors,
        starts=starts, read_ns=columns.read_ns[reads], read_tokens=columns.read_tokens[reads],
    )  # fmt: skip


def table_of(columns: LoadColumns) -> pa.Table:
    """One row a request, without the single reads."""
    arrays = {name: pa.array(getattr(columns, name)) for name in INTEGERS}
    arrays["finish_reason"] = pa.array(columns.finish_reasons, pa.string()).dictionary_encode()
    arrays["error"] = pa.array([columns.errors.get(int(index)) for index in columns.index], pa.string())
    return pa.table(arrays)


def write_columns(columns: LoadColumns, folder: Path) -> None:
    """Write columns for another process: `requests.parquet` and `reads.parquet`."""
    table = table_of(columns).append_column("num_reads", pa.array(np.diff(columns.starts)))
    pq.write_table(table, folder / "requests.parquet", compression="lz4")
    reads = pa.table({"t_ns": columns.read_ns, "tokens": columns.read_tokens})
    pq.write_table(reads, folder / "reads.parquet", compression="lz4")


def read_columns(folder: Path) -> LoadColumns:
    """What `write_columns` wrote."""
    table, reads = pq.read_table(folder / "requests.parquet"), pq.read_table(folder / "reads.parquet")
    errors = zip(table["index"].to_pylist(), table["error"].to_pylist(), strict=True)
    counts = table["num_reads"].to_numpy()
    return LoadColumns(
        **{name: table[name].to_numpy() for name in INTEGERS},
        finish_reasons=tuple(table["finish_reason"].to_pylist()),
        errors={index: error for index, error in errors if error is not None},
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        read_ns=reads["t_ns"].to_numpy(), read_tokens=reads["tokens"].to_numpy(),
    )  # fmt: skip
