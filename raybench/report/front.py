"""The front of closed loops: tokens per second per GPU against tokens per second per user, over all targets. Pure.

Targets are accelerators and engine settings (tensor and expert parallelism, replicas), users are the points of a
sweep: all of them stand on one front, as long as the requests are the same. Which settings tell the targets apart
stands beside them.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from raybench.config.schema import FlagValue
from raybench.report import numbers
from raybench.report.model import Report, TargetRow
from raybench.report.serving_model import LoadRow
from raybench.report.tables import Table, markdown_table

NOTE = (
    "Closed loops of all targets, by tokens per second for one user. A star marks the front: points that no other "
    "point beats in both columns. Points with a red finding are on no front."
)

Spot = tuple[float, float]
"""(tokens per second per GPU, tokens per second per user), medians over runs."""


def with_front(rows: Sequence[LoadRow]) -> tuple[LoadRow, ...]:
    """Marks the points of closed loops that no other point of the same requests beats in both."""
    spots = {number: (_group(row), spot) for number, row in enumerate(rows) if (spot := _spot(row)) is not None}
    front = {
        number
        for number, (group, spot) in spots.items()
        if not any(other == group and _beats(better, spot) for other, better in spots.values())
    }
    return tuple(row.model_copy(update={"on_front": number in front}) for number, row in enumerate(rows))


def _beats(better: Spot, spot: Spot) -> bool:
    return better[0] >= spot[0] and better[1] >= spot[1] and better != spot


def _group(row: LoadRow) -> tuple[str, str, bool]:
    """Points are comparable where their requests are alike, and where both are per GPU or both are per node."""
    # Words leave out what a text says; they come first so that the pages show groups in their order.
    return row.load, row.requests, row.output_tok_per_s_per_gpu is None


def _spot(row: LoadRow) -> Spot | None:
    if row.kind != "closed" or row.red or row.output_tok_per_s is None or row.tok_per_s_per_user is None:
        return None
    return row.output_tok_per_s_per_gpu or row.output_tok_per_s.median, row.tok_per_s_per_user.median


def front_blocks(report: Report) -> Iterator[str]:
    """Blocks of Markdown: one table for each kind of requests; none where there is nothing to compare."""
    rows = [row for row in report.serving if row.kind == "closed" and row.tok_per_s_per_user is not None]
    groups = [list(found) for _, found in groupby(sorted(rows, key=_group), key=_group)]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return
    yield "### Throughput against interactivity"
    yield NOTE
    for group in groups:
        yield f"{group[0].load[0].upper()}{group[0].load[1:]}. {front_sentence(group)}"
        yield markdown_table(front_table(group, settings_of(report.targets)))


def front_sentence(rows: Sequence[LoadRow]) -> str:
    """Which target holds which part of the front, from the quickest for one user to the most for all."""
    front = sorted((row for row in rows if row.on_front), key=_per_user, reverse=True)
    parts = [
        f"**{target}** with {' and '.join(f'{row.value:g}' for row in found)}"
        for target, found in ((target, list(some)) for target, some in groupby(front, key=lambda row: row.target))
    ]
    if not parts:
        return "No point is on a front: all have a red finding."
    return f"The front, from one user's speed to throughput: {', then '.join(parts)} users."


def front_table(rows: Sequence[LoadRow], settings: dict[str, str]) -> Table:
    """Throughput per GPU (per node without GPUs) against throughput per user."""
    per_gpu = rows[0].output_tok_per_s_per_gpu is not None
    rate = "Output per GPU (tok/s)" if per_gpu else "Output of a node (tok/s)"
    with_settings = any(settings[row.target] for row in rows)
    headers = ("Target", *(("Settings",) if with_settings else ()), "Sweep", "Users", "Per user (tok/s)", rate, "Front")
    cells = [
        (
            row.target, *((settings[row.target] or numbers.NONE,) if with_settings else ()), row.sweep,
            f"{row.value:g}", numbers.rate(_per_user(row)),
            numbers.rate(row.output_tok_per_s_per_gpu or _output(row)), "*" if row.on_front else "",
        )
        for row in sorted(rows, key=_per_user, reverse=True)
    ]  # fmt: skip
    return Table(headers, tuple(cells), num_left=3 if with_settings else 2)


def settings_of(targets: Sequence[TargetRow]) -> dict[str, str]:
    """By target, the engine flags that are not the same for all targets; empty where nothing differs."""
    names = sorted({name for target in targets for name in target.args})
    differ = [name for name in names if len({_word(target.args.get(name)) for target in targets}) > 1]
    gpus_differ = len({target.gpus_per_node for target in targets}) > 1
    found: dict[str, str] = {}
    for target in targets:
        words = [f"{target.gpus_per_node} GPUs"] if gpus_differ else []
        words += [f"{name} {_word(target.args[name])}".strip() for name in differ if name in target.args]
        found[target.name] = ", ".join(words)
    return found


def _word(value: FlagValue) -> str:
    return value if isinstance(value, str) else "" if value is True else json.dumps(value)


def _per_user(row: LoadRow) -> float:
    return 0.0 if row.tok_per_s_per_user is None else row.tok_per_s_per_user.median


def _output(row: LoadRow) -> float | None:
    return None if row.output_tok_per_s is None else row.output_tok_per_s.median
