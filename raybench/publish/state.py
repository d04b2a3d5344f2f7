"""`publish.json`: how far the sinks came. Written by the publishing process, read by whoever started it."""

from pathlib import Path
from typing import Literal

from raybench.records import Record

STATE = "publish.json"
WANDB_FOLDER = "wandb"
"""Folder inside a run folder that holds everything that W&B writes."""


class PublishState(Record):
    """State of the last try."""

    state: Literal["running", "published", "failed"]
    """running and no such process: it was killed at its wall limit."""
    mode: str
    """offline or online."""
    error: str | None = None
    """What went wrong; None if nothing did."""
    runs: tuple[str, ...] = ()
    """Ids of the W&B runs that are whole."""
    rows: int = 0
    """History rows that they hold together."""


def write_state(folder: Path, state: PublishState) -> None:
    """Write the file whole or not at all."""
    part = folder / f"{STATE}.part"
    part.write_text(state.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(folder / STATE)


def read_state(folder: Path) -> PublishState | None:
    """The state, or None where there is none that can be read."""
    try:
        return PublishState.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValueError):
        return None
