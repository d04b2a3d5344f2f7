"""Prompts of real text, from a file of the user. Every request's text begins with a number of its own, so that no two
prompts share more than a prefix cache's odd token, however few texts there are."""

import json
from collections.abc import Iterable
from pathlib import Path

from raybench.config.serving import ClosedSweep, OpenSweep
from raybench.errors import ConfigError
from raybench.load.draws import seed_of

MAX_TEXTS = 500
"""Texts that are taken from a file: they stand in the plan."""


def texts_of(sweeps: Iterable[object]) -> dict[str, tuple[str, ...]]:
    """The texts of all sweeps that have some, by the name of the sweep. Raises ConfigError."""
    return {
        sweep.name: read_texts(Path(sweep.texts).expanduser())
        for sweep in sweeps
        if isinstance(sweep, ClosedSweep | OpenSweep) and sweep.texts is not None
    }


def read_texts(path: Path) -> tuple[str, ...]:
    """The first prompts of a file. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"the prompts {path} cannot be read: {reason}") from error
    found = [text for line in lines if (text := _text(line))]
    if not found:
        raise ConfigError(f"the file {path} holds no prompt: one a line, as text or as JSON with `text` or `prompt`")
    return tuple(found[:MAX_TEXTS])


def _text(line: str) -> str:
    if not line.lstrip().startswith("{"):
        return line.strip()
    try:
        content = json.loads(line)
    except ValueError:
        return line.strip()
    text = content.get("text") or content.get("prompt")
    return text.strip() if isinstance(text, str) else ""


def text_for(texts: tuple[str, ...], prompt_seed: int, index: int) -> str | None:
    """The text of a request; None where there are none."""
    if not texts:
        return None
    number = seed_of(prompt_seed, "text", index)
    return f"{number:016x} {texts[number % len(texts)]}"
