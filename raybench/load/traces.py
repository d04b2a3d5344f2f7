"""Traces: JSON lines of what a service was asked, one request a line, to be sent again.

Two spellings are read. Ours: `{"at_s": 1.5, "input_tokens": 900, "output_tokens": 120, "prefix_ids": [7, 8]}`.
Mooncake's: `{"timestamp": 1500, "input_length": 900, "output_length": 120, "hash_ids": [7, 8]}`, with milliseconds and
blocks of 512 tokens. Prefix ids may be left out; they name the blocks of a prompt, and equal ids are equal tokens.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from raybench.config.serving import TraceSweep
from raybench.errors import ConfigError
from raybench.records import Record
from raybench.records.loads import TraceLoad


class TraceLine(Record):
    """One request in our spelling. A trace may hold other keys, which say nothing here."""

    model_config = ConfigDict(extra="ignore")

    at_s: float = Field(ge=0)
    """Arrival in seconds on any clock."""
    input_tokens: int = Field(ge=1)
    """Prompt tokens."""
    output_tokens: int = Field(ge=1)
    """Reply tokens."""
    prefix_ids: tuple[int, ...] = ()
    """Blocks of the prompt, in order."""


class MooncakeLine(Record):
    """One request in the spelling of the Mooncake traces."""

    model_config = ConfigDict(extra="ignore")

    timestamp: float = Field(ge=0)
    """Arrival in milliseconds."""
    input_length: int = Field(ge=1)
    """Prompt tokens."""
    output_length: int = Field(ge=1)
    """Reply tokens."""
    hash_ids: tuple[int, ...] = ()
    """Blocks of 512 tokens that the prompt consists of, in order."""

    def plain(self) -> TraceLine:
        """The same in our spelling."""
        return TraceLine(
            at_s=self.timestamp / 1000, input_tokens=self.input_length, output_tokens=self.output_length,
            prefix_ids=self.hash_ids,
        )  # fmt: skip


_LINE: TypeAdapter[TraceLine | MooncakeLine] = TypeAdapter(Annotated[TraceLine | MooncakeLine, Field()])


def read_trace(path: Path, max_requests: int, block_tokens: int = 512) -> TraceLoad:
    """The first `max_requests` requests of a trace's file. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8") as file:
            return trace_of(file, path.name, max_requests, block_tokens)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"the trace {path} cannot be read: {reason}") from error


def traces_of(sweeps: Iterable[TraceSweep]) -> dict[str, TraceLoad]:
    """The traces of all sweeps that have one, by the name of the sweep. Raises ConfigError."""
    return {
        sweep.name: read_trace(Path(sweep.path).expanduser(), sweep.max_requests, sweep.block_tokens)
        for sweep in sweeps
    }


def trace_of(lines: Iterable[str], name: str, max_requests: int, block_tokens: int = 512) -> TraceLoad:
    """A trace from its lines; arrivals count from the first one kept, empty lines are skipped. Raises ConfigError."""
    found: list[TraceLine] = []
    for number, line in enumerate(islice((text for text in lines if text.strip()), max_requests), start=1):
        found.append(_parsed(line, f"{name}, request {number}"))
    if not found:
        raise ConfigError(f"the trace {name} holds no request")
    found.sort(key=lambda one: one.at_s)
    shared = any(one.prefix_ids for one in found)
    return TraceLoad(
        name=name,
        at_s=tuple(one.at_s - found[0].at_s for one in found),
        input_tokens=tuple(one.input_tokens for one in found),
        output_tokens=tuple(one.output_tokens for one in found),
        blocks=tuple(one.prefix_ids for one in found) if shared else (),
        block_tokens=block_tokens,
    )


def _parsed(line: str, where: str) -> TraceLine:
    try:
        parsed = _LINE.validate_json(line)
    except ValidationError as error:
        raise ConfigError(
            f"the trace {where}: expected JSON with at_s, input_tokens, output_tokens (or Mooncake's timestamp, "
            f"input_length, output_length), each at least 1 token; found {line.strip()[:120]!r}"
        ) from error
    return parsed.plain() if isinstance(parsed, MooncakeLine) else parsed
