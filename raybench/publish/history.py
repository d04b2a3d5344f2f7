"""Reads the Parquet data set of many runs and lays their points and scores side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.table import Table

from raybench.errors import PublishError
from raybench.publish.content import Cell
from raybench.publish.names import display_label
from raybench.publish.parquet_sink import EVALS, HISTORY, LOADS, POINTS
from raybench.publish.view_text import number

Rows = tuple[dict[str, Cell], ...]
Place = tuple[str | float, ...]
"""What tells a point from the others of its run: its sweep first."""


@dataclass(frozen=True, slots=True)
class History:
    """Rows of all data sets, oldest folder first; a run that stands in two of them counts once."""

    points: Rows
    evals: Rows
    loads: Rows = ()
    """Points of serving loads."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every target of every run, in order."""
        return tuple(dict.fromkeys(label(row) for row in (*self.points, *self.loads, *self.evals)))


def label(row: dict[str, Cell]) -> str:
    """Target and run of a row."""
    return display_label(str(row["target"]), str(row["sweep_id"]))


def read_history(folders: Sequence[Path]) -> History:
    """Rows of run folders and of data sets. Raises PublishError for a folder that holds none."""
    points: dict[tuple[Cell, ...], dict[str, Cell]] = {}
    loads: dict[tuple[Cell, ...], dict[str, Cell]] = {}
    evals: dict[tuple[Cell, ...], dict[str, Cell]] = {}
    for folder in folders:
        root = folder / HISTORY if (folder / HISTORY).is_dir() else folder
        if not (root / POINTS).is_dir() and not (root / EVALS).is_dir():
            raise PublishError(
                f"{folder} holds no Parquet history. Make it with: raybench publish {folder} --sink parquet"
            )
        for row in _rows(root / POINTS):
            points[row["run"], row["sweep"], row["batch_size"]] = row
        for row in _rows(root / LOADS):
            loads[row["run"], row["sweep"], row["x"]] = row
        for row in _rows(root / EVALS):
            evals[row["run"], row["eval"]] = row
    return History(tuple(points.values()), tuple(evals.values()), tuple(loads.values()))


def _rows(folder: Path) -> list[dict[str, Cell]]:
    found: list[dict[str, Cell]] = []
    for path in sorted(folder.glob("*.parquet")):
        frame = pd.read_parquet(path)
        for row in frame.to_dict(orient="records"):
            found.append({str(name): None if pd.isna(value) else value for name, value in row.items()})
    return found


def speed_tables(history: History, metric: str, baseline: str | None) -> tuple[Table, ...]:
    """One metric by point, static batches and serving loads apart: a column per run, with its ratio to the baseline's.

    Raises PublishError for a metric that neither has, and for a baseline that is no run.
    """
    columns = {name for row in (*history.points, *history.loads) for name in row}
    if columns and metric not in columns:
        raise PublishError(f"--metric {metric}: the data set has no such column. It has: {', '.join(sorted(columns))}")
    labels = list(history.labels)
    if baseline is not None and baseline not in labels:
        raise PublishError(f"--baseline {baseline}: the data set has no such run. It has: {', '.join(labels)}")
    shapes = (("input", "output", "batch"), history.points, _shape)
    if len({(_shape(row), label(row)) for row in history.points}) < len(history.points):
        # Two sweeps of a run have points of one shape: only their names tell them apart.
        shapes = (("sweep", "input", "output", "batch"), history.points, _named_shape)
    kinds = (shapes, (("sweep", "load", "x"), history.loads, _load))
    return tuple(
        _table(head, rows, place, metric, baseline)
        for head, rows, place in kinds if any(row.get(metric) is not None for row in rows)
    )  # fmt: skip


def _table(
    head: Sequence[str], rows: Rows, place: Callable[[dict[str, Cell]], Place], metric: str, baseline: str | None
) -> Table:
    labels = list(dict.fromkeys(label(row) for row in rows))
    first = baseline or labels[0]
    table = Table(*head, *labels, title=f"{metric} (ratio to {first})")
    cells = {(place(row), label(row)): row.get(metric) for row in rows}
    for where in sorted({place(row) for row in rows}):
        under = cells.get((where, first))
        words = (each if isinstance(each, str) else f"{each:g}" for each in where)
        table.add_row(*words, *(_cell(cells.get((where, name)), under, name == first) for name in labels))
    return table


def _shape(row: dict[str, Cell]) -> Place:
    return tuple(float(row[name] or 0) for name in ("input_len", "output_len", "batch_size"))


def _named_shape(row: dict[str, Cell]) -> Place:
    return str(row["sweep"]), *_shape(row)


def _load(row: dict[str, Cell]) -> Place:
    return str(row["sweep"]), str(row["load"]), float(row["x"] or 0)


def _cell(value: Cell, under: Cell, is_baseline: bool) -> str:
    if isinstance(value, str) or value is None:
        return value or "-"
    if is_baseline or isinstance(under, str) or not under:
        return number(float(value))
    return f"{number(float(value))} ({float(value) / float(under):.3f})"


def accuracy_table(history: History) -> Table:
    """Scores with their 95% intervals."""
    table = Table("eval", "run", "n", "score", "95% interval", "reference", "gate", title="accuracy")
    for row in sorted(history.evals, key=lambda r: str(r["eval"])):
        interval = f"[{number(row.get('ci_lo'))}, {number(row.get('ci_hi'))}]"
        table.add_row(
            str(row["eval"]), label(row), number(row.get("n")), number(row.get("score")), interval,
            number(row.get("baseline")), str(row.get("verdict") or "-"),
        )  # fmt: skip
    return table
