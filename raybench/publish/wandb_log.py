# pyright: reportAttributeAccessIssue=false
"""Reads the transaction log of an offline W&B run: what would be sent.

A `.wandb` file is a header of 7 bytes (`:W&B` and three more), then blocks of 32 KiB that hold chunks: CRC-32 of type
and body (4 bytes), length (2), type (1: whole record, 2: first, 3: middle, 4: last part), body. Records are protobuf
messages that wandb itself brings; it brings no reader since 0.31.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue
from wandb.proto import wandb_internal_pb2

BLOCK_BYTES = 32 * 1024
FILE_HEADER_BYTES = 7
CHUNK_HEADER_BYTES = 7
WHOLE, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


@dataclass(slots=True)
class WandbLog:
    """What a run's log holds, by kind."""

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    host: str = ""
    tags: list[str] = field(default_factory=list[str])
    config: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    summary: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    history: list[dict[str, JsonValue]] = field(default_factory=list[dict[str, JsonValue]])
    """Rows without W&B's own keys, but for `_step`."""
    step_metrics: dict[str, str] = field(default_factory=dict[str, str])
    """Metric or glob -> the metric that it is drawn over."""
    artifacts: list[str] = field(default_factory=list[str])
    """Names of the artifacts."""
    exit_code: int | None = None


def bodies(data: bytes) -> Iterator[bytes]:
    """Bodies of the records. Raises ValueError for another format, a wrong checksum or a torn end."""
    if data[:4] != b":W&B":
        raise ValueError("no .wandb file")
    position, parts = FILE_HEADER_BYTES, b""
    while position < len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < CHUNK_HEADER_BYTES:
            position += left
            continue
        checksum = int.from_bytes(data[position : position + 4], "little")
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        start = position + CHUNK_HEADER_BYTES
        body = data[start : start + length]
        if len(body) < length or zlib.crc32(bytes([kind]) + body) != checksum:
            raise ValueError(f"damaged at byte {position}")
        parts = body if kind in (WHOLE, FIRST) else parts + body
        if kind in (WHOLE, LAST):
            yield parts
        position = start + length


def read_log(path: Path) -> WandbLog:
    """The log of one run. Raises ValueError, OSError."""
    log = WandbLog()
    for body in bodies(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(body)
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                log.id, log.project, log.name = run.run_id, run.project, run.display_name
                log.group, log.job_type, log.host = run.run_group, run.job_type, run.host
                log.tags = list(run.tags)
                log.config |= _values(run.config.update)
            case "config":
                log.config |= _values(record.config.update)
            case "summary":
                log.summary |= _values(record.summary.update)
            case "history":
                row = _values(record.history.item)
                log.history.append({k: v for k, v in row.items() if not k.startswith("_") or k == "_step"})
            case "metric":
                log.step_metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            case "artifact":
                log.artifacts.append(record.artifact.name)
            case "exit":
                log.exit_code = record.exit.exit_code
            case _:
                pass
    return log


class _Item(Protocol):
    """A key with its value as JSON."""

    key: str
    nested_key: Iterable[str]
    value_json: str


def _values(items: Iterable[_Item]) -> dict[str, JsonValue]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
