"""Serving loads of all arms beside the first one's: ratios of the medians, with their range over the runs. Pure."""

from collections.abc import Iterator, Sequence

from raybench.publish.arms import Arm
from raybench.publish.content import Cell, Scalar, Table
from raybench.publish.joined import better
from raybench.publish.names import finite, segment
from raybench.publish.serving import place
from raybench.report.model import Spread
from raybench.report.serving_model import LoadRow
from raybench.stats.compare import Ratio

COLUMNS = (
    "metric", "sweep", "load", "x", "baseline", "target", "baseline_value", "target_value", "ratio", "low", "high",
    "better", "findings",
)  # fmt: skip
METRICS: dict[str, tuple[str, float, bool]] = {
    "output_tok_s": ("output_tok_per_s", 1, True),
    "ttft_p50_ms": ("ttft_p50_s", 1000, False),
    "ttft_p99_ms": ("ttft_p99_s", 1000, False),
    "tpot_p50_ms": ("tpot_p50_s", 1000, False),
    "e2e_p50_s": ("e2e_p50_s", 1, False),
}
"""Name in the sinks -> field of `LoadRow`, the sink's unit over ours, and whether more is better."""


def serving_speed(arms: Sequence[Arm]) -> Table:
    """Every serving point of every arm beside the same point of the first one: same sweep, load and value."""
    return Table("compare/serving", COLUMNS, tuple(row for arm in arms[1:] for row in _speed(arms[0], arm)))


def _speed(baseline: Arm, arm: Arm) -> Iterator[tuple[Cell, ...]]:
    points = {_point(row): row for row in baseline.serving}
    for row in sorted(arm.serving, key=lambda r: (r.sweep, r.value)):
        other = points.get(_point(row))
        if other is None:
            continue
        for metric, (field, factor, more_is_better) in METRICS.items():
            ours, theirs = _spread(row, field), _spread(other, field)
            found = None if row.red or other.red else _ratio(ours, theirs)
            # At a given rate, throughput is what was asked for.
            judged = None if metric == "output_tok_s" and row.kind not in ("closed", "sessions") else found
            codes = ", ".join(dict.fromkeys((*other.findings, *row.findings)))
            yield (
                metric, row.sweep, row.load, row.value, baseline.label, arm.label,
                theirs and theirs.median * factor, ours and ours.median * factor,
                found and found.ratio, found and found.low, found and found.high, better(judged, more_is_better), codes,
            )  # fmt: skip


def _point(row: LoadRow) -> tuple[str, str, str, float]:
    return row.sweep, row.kind, row.load, row.value


def _spread(row: LoadRow, field: str) -> Spread | None:
    value: Spread | None = getattr(row, field)
    return value


def _ratio(ours: Spread | None, theirs: Spread | None) -> Ratio | None:
    """The same ratio and range as over the single runs, whose ends a spread holds."""
    if ours is None or theirs is None or theirs.min <= 0:
        return None
    return Ratio(
        ratio=ours.median / theirs.median, low=ours.min / theirs.max, high=ours.max / theirs.min, num_a=ours.num,
        num_b=theirs.num,
    )  # fmt: skip


def serving_summary(speedup: Table, arms: Sequence[Arm]) -> dict[str, Scalar]:
    """The ratios as flat keys: `compare/b200/users/c16/tpot_p50_ms_ratio`."""
    keys = {arm.label: segment(arm.label) for arm in arms}
    kinds = {(row.sweep, row.value): row for arm in arms for row in arm.serving}
    found: dict[str, Scalar | None] = {}
    for row in speedup.rows:
        metric, sweep, _, x, _, target = row[:6]
        where = place(kinds[str(sweep), float(x or 0)])
        found[f"compare/{keys[str(target)]}/{where}/{metric}_ratio"] = row[8]
    return finite(found)
