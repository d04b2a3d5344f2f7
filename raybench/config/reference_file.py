"""Reads and writes files of measured references: YAML, sorted, so that a change of a reference can be reviewed."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import ValidationError

from raybench.config.reference import MeasuredReference, NumericsReference, ReferenceFile
from raybench.config.source import parse
from raybench.errors import ConfigError, StorageError

_HEAD = (
    "# References measured by raybench: `evals[].reference` in a configuration names this file.\n"
    "# (correct, answered) samples by question id; no question's text. Made by `raybench report --save-reference`.\n"
)


def read_reference(path: Path, eval_name: str) -> MeasuredReference:
    """The entry of an eval; dashes and underscores are alike. Raises ConfigError."""
    entries = _read(path).references
    for entry in entries:
        if _plain(entry.eval) == _plain(eval_name):
            return entry
    held = ", ".join(entry.eval for entry in entries) or "nothing"
    raise ConfigError(f"reference file {path} holds no entry for the eval {eval_name!r}; it holds {held}")


def read_numerics(path: Path) -> NumericsReference:
    """The log-probabilities of an accepted server. Raises ConfigError."""
    found = _read(path).numerics
    if found is None:
        raise ConfigError(
            f"reference file {path} holds no log-probabilities: the run that it was saved from had no preflight, "
            "or its engine gave none"
        )
    return found


def save_references(
    path: Path, entries: Iterable[MeasuredReference], numerics: NumericsReference | None = None
) -> None:
    """Write entries into a file, made if it is not there; what it holds of other evals, or of numerics, is kept.

    Raises ConfigError when the file is no reference file, StorageError when it cannot be written.
    """
    before = _read(path) if path.exists() else ReferenceFile(references=())
    kept = {_plain(entry.eval): entry for entry in before.references}
    kept |= {_plain(entry.eval): entry for entry in entries}
    file = ReferenceFile(references=tuple(kept[name] for name in sorted(kept)), numerics=numerics or before.numerics)
    content = file.model_dump(mode="json")
    # Leaves in one line each: a question is one line of a diff.
    text = _HEAD + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write the reference file {path}: {error.strerror}") from error


def _read(path: Path) -> ReferenceFile:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no reference file {path}; make it with `raybench report RUN_DIR --save-reference FILE`"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"reference file {path} cannot be read: {error}") from None
    data = parse(text, str(path)).data
    try:
        return ReferenceFile.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise ConfigError(
            f"{path} is no reference file of this raybench: {place}: {first['msg']}. Reference files are written by "
            "`raybench report RUN_DIR --save-reference FILE`"
        ) from None


def _plain(name: str) -> str:
    return name.replace("-", "_")
