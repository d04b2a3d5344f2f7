"""What the executor of a load is given: requests whose bytes are made, and how to send them.

A request is *due* at a time of its own, or when the one before it in its chain has ended (a user of a closed loop, a
conversation), or at the later of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

GENERATE: Final = "/generate"
CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"

_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("due_s", pa.float64()),
        ("chain", pa.int64()),
        ("pause_s", pa.float64()),
        ("path", pa.dictionary(pa.int8(), pa.string())),
        ("body", pa.large_binary()),
    ]
)
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request."""

    index: int
    """Place in the schedule; comes back with the result."""
    due_s: float | None
    """When it is to be sent, in seconds since the start; None = as soon as its chain lets it."""
    chain: int | None
    """Chain that it belongs to; requests of a chain follow each other in the order given. None = none."""
    body: bytes
    """JSON of the request."""
    path: str = GENERATE
    """Route."""
    pause_s: float = 0.0
    """Time between the end of the one before it in its chain and the sending of this one."""


def write_plan(requests: Sequence[PlannedRequest], file: Path) -> None:
    """Write requests for another process, which maps the file instead of reading it."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for start in range(0, len(requests), _ROWS_AT_ONCE):
            some = requests[start : start + _ROWS_AT_ONCE]
            columns = [[getattr(request, name) for request in some] for name in _SCHEMA.names]
            # Every batch has its own dictionary of paths; the format wants them to be one.
            paths = pa.DictionaryArray.from_arrays(
                pa.array([_PATHS.index(path) for path in columns[4]], pa.int8()), pa.array(_PATHS)
            )
            arrays = [
                pa.array(values, field.type)
                for values, field in zip(columns, _SCHEMA, strict=True)
                if field.name != "path"
            ]
            writer.write_batch(pa.record_batch([*arrays[:4], paths, arrays[4]], schema=_SCHEMA))


_PATHS = [GENERATE, CHAT, COMPLETIONS]


def read_plan(file: Path, part: int = 0, num_parts: int = 1) -> list[PlannedRequest]:
    """Requests of one of several processes: chains stay whole, others are dealt out in turn."""
    found: list[PlannedRequest] = []
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            rows = zip(*(batch.column(name).to_pylist() for name in _SCHEMA.names), strict=True)
            for index, due_s, chain, pause_s, path, body in rows:
                if (index if chain is None else chain) % num_parts == part:
                    found.append(PlannedRequest(index, due_s, chain, body, path, pause_s))
    return found
