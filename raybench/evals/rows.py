"""Reads an eval's rows: made by code, from a local file, or from the hub. The one importer of `datasets`, and the one
module of this room that reads anything.

Every value becomes text at the door, so that no reader's guess at a type changes an answer (a CSV reader that sees
integers drops leading zeros). JSONL and CSV are read with the standard library: a JSONL file is iterated, because
`str.splitlines` also breaks records at U+2028 and U+0085, which stand in real problem texts. No message quotes a row.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from raybench.config.evals import EvalConfig
from raybench.errors import RowsError
from raybench.evals import eval_of
from raybench.evals.base import Column, Eval, HubSource, Rows
from raybench.records import content_hash

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A CSV cell of a long problem passes the module's default of 128 KiB only when the file is none.
_MAX_CELL_CHARS = 1_000_000


def rows_of(evals: Iterable[EvalConfig]) -> dict[str, Rows]:
    """The rows of all evals of a configuration, by the name that each has there. Raises ConfigError, RowsError."""
    return {settings.name: read_rows(eval_of(settings), settings.rows) for settings in evals}


def read_rows(evaluation: Eval, rows: str) -> Rows:
    """The rows that `rows` (a configuration's `evals[].rows`) names.

    `default`: the eval's own source; `synthetic`: stand-in questions; a JSONL, CSV or Parquet file; else a hub id.
    Raises RowsError for a missing or unreadable source, a missing column, an empty answer or no rows at all.
    """
    if rows == "synthetic":
        return _made(evaluation.synthetic(), "synthetic")
    if rows == "default":
        source = evaluation.default_rows
        return _made(evaluation.synthetic(), "built-in") if source is None else _from_hub(evaluation, source)
    path = Path(rows).expanduser()
    if path.suffix.lower() in _READERS or path.exists() or _HUB_ID.fullmatch(rows) is None:
        return _from_file(evaluation, path)
    return _from_hub(evaluation, _hub_source(evaluation, rows))


def _made(rows: tuple[dict[str, str], ...], source: str) -> Rows:
    return Rows(rows, source, _digest(rows))


def _digest(rows: Iterable[Mapping[str, str]]) -> str:
    return content_hash([dict(row) for row in rows], 64)


def _from_file(evaluation: Eval, path: Path) -> Rows:
    reader = _READERS.get(path.suffix.lower())
    where = f"{evaluation.name}: rows file {path}"
    if not path.exists():
        raise RowsError(f"{where} does not exist; give a JSONL, CSV or Parquet file, a hub id, default or synthetic")
    if not path.is_file():
        raise RowsError(f"{where} is a folder; give the JSONL, CSV or Parquet file in it")
    if reader is None:
        raise RowsError(f"{where} has the ending {path.suffix or 'none'!r}; known: {', '.join(_READERS)}")
    try:
        raw = reader(path)
    except (OSError, ValueError, csv.Error) as error:
        reason = (
            f"is not UTF-8 text (byte {error.start})"
            if isinstance(error, UnicodeDecodeError)
            else f"cannot be read: {error}"
        )
        raise RowsError(f"{where} {reason}") from error
    notes = _notes(evaluation, path)
    return _checked(evaluation, raw, where, path.name, notes)


def _notes(evaluation: Eval, path: Path) -> tuple[str, ...]:
    """Says so when a local file is none that is known to hold the real rows: nobody else can tell."""
    if not evaluation.known_files:
        return ()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 in evaluation.known_files:
        return ()
    return (
        f"{evaluation.name}: {path.name} has the SHA-256 {sha256}, which is no file that raybench knows; its rows are "
        "used as they are, so compare scores with published ones only when you know where it came from",
    )


def _read_jsonl(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            rows.append(row)
    return rows


def _read_csv(path: Path) -> list[dict[str, object]]:
    csv.field_size_limit(_MAX_CELL_CHARS)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines, strict=True)
        rows: list[dict[str, object]] = []
        for row in table:
            if None in row:
                raise ValueError(f"line {table.line_num} has more cells than the header")
            rows.append(dict(row))
    return rows


def _read_parquet(path: Path) -> list[dict[str, object]]:
    from datasets import Dataset, disable_progress_bars, enable_progress_bars  # noqa: PLC0415 - takes more than a second to import

    disable_progress_bars()  # a local file is read in an instant
    # A cache of its own: the library's shared one would keep a copy of gated rows.
    with TemporaryDirectory() as cache:
        try:
            table = Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)
            return [dict(row) for row in table]
        except Exception as error:  # of pyarrow, of the library's own, of the disk
            raise ValueError(f"not a Parquet file, or a damaged one ({type(error).__name__})") from error
        finally:
            enable_progress_bars()


_READERS: dict[str, Callable[[Path], list[dict[str, object]]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _hub_source(evaluation: Eval, repo: str) -> HubSource:
    default = evaluation.default_rows
    if default is not None and default.repo.lower() == repo.lower():
        return default
    return HubSource(repo, split=default.split if default is not None else "test")


def _from_hub(evaluation: Eval, source: HubSource) -> Rows:
    from datasets import load_dataset  # noqa: PLC0415 - takes more than a second to import

    where = f"{evaluation.name}: rows of the hub data set {source.repo}"
    try:
        table = load_dataset(source.repo, source.config, split=source.split)
        raw = [dict(row) for row in table]
    except Exception as error:  # of the hub, of its HTTP library, of pyarrow, of the disk
        access = (
            "accept its terms on the hub, then set HF_TOKEN or log in with `hf auth login`"
            if source.gated
            else "check the name and the network (a private data set needs HF_TOKEN)"
        )
        first_line = (str(error).strip().splitlines() or [""])[0][:200]
        raise RowsError(
            f"{where}, split {source.split}, cannot be read: {type(error).__name__}: {first_line}; {access}, "
            "or give a local JSONL, CSV or Parquet file, or `rows: synthetic`"
        ) from error
    return _checked(evaluation, raw, where, f"hub:{source.repo}")


def _checked(
    evaluation: Eval, raw: list[dict[str, object]], where: str, source: str, notes: tuple[str, ...] = ()
) -> Rows:
    if not raw:
        raise RowsError(f"{where} holds no rows")
    present = list(dict.fromkeys(name for row in raw for name in row))
    names = {column: _source_name(column, present) for column in evaluation.columns}
    missing = [column for column, name in names.items() if name is None and column.required]
    if missing:
        raise RowsError(f"{where} has no column {_described(missing, present)}; it has: {', '.join(present) or 'none'}")
    rows: list[dict[str, str]] = []
    for number, row in enumerate(raw, start=1):
        values = {column: _text(row.get(name)) for column, name in names.items() if name is not None}
        empty = [column for column, value in values.items() if column.required and not value.strip()]
        if empty:
            raise RowsError(f"{where}: row {number} has nothing in column {names[empty[0]]!r}")
        rows.append({column.name: value for column, value in values.items()})
    if evaluation.num_rows is not None and len(rows) != evaluation.num_rows:
        raise RowsError(
            f"{where} holds {len(rows)} rows, and {evaluation.name} has {evaluation.num_rows}: part of it, or another "
            "set (its extended or main one?). To ask fewer questions set `limit`; questions of your own belong to a "
            "`custom` eval"
        )
    return Rows(tuple(rows), source, _digest(rows), notes)


def _source_name(column: Column, present: list[str]) -> str | None:
    by_lower = {name.strip().lower(): name for name in reversed(present)}
    for wanted in (column.source,) if column.source is not None else (column.name, *column.aliases):
        if wanted in present:
            return wanted
        if wanted.lower() in by_lower:
            return by_lower[wanted.lower()]
    return None


def _described(missing: list[Column], present: list[str]) -> str:
    parts: list[str] = []
    for column in missing:
        published = column.aliases[0] if column.aliases and " " in column.aliases[0] else column.name
        wanted = column.source or published
        near = get_close_matches(wanted, present, n=1, cutoff=0.5)
        parts.append(f"{wanted!r}" + (f" (nearest: {near[0]!r})" if near else ""))
    return ", ".join(parts)


def _text(value: object) -> str:
    """Text of one cell; booleans, lists and mappings in JSON's words, so that they cannot pass for an answer."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
