"""Serving loads for the sinks: a history row for each load point, flat summary keys. Pure.

A row's x is what its sweep varies (users, requests per second, speed); the same number stands under a name of its own,
so that a chart can take the sweeps of one kind only. Findings, prices and the front may still change after a row was
sent: they are in the summary alone.
"""

from collections.abc import Iterable, Mapping

from raybench.publish.content import Row, Scalar
from raybench.publish.names import SERVING_X, curve_values, finite, segment
from raybench.publish.steps import PointId
from raybench.report.model import Report, Spread
from raybench.report.serving_model import LoadRow, SearchRow

NAMES: Mapping[str, tuple[str, float]] = {
    "request_per_s": ("request_s", 1),
    "input_tok_per_s": ("input_tok_s", 1),
    "output_tok_per_s": ("output_tok_s", 1),
    "output_tok_per_s_per_gpu": ("output_tok_s_per_gpu", 1),
    "total_tok_per_s_per_gpu": ("total_tok_s_per_gpu", 1),
    "tok_per_s_per_user": ("interactivity_tok_s_user", 1),
    "ttft_p50_s": ("ttft_p50_ms", 1000),
    "ttft_p99_s": ("ttft_p99_ms", 1000),
    "tpot_p50_s": ("tpot_p50_ms", 1000),
    "tpot_p99_s": ("tpot_p99_ms", 1000),
    "longest_gap_p99_s": ("longest_gap_p99_ms", 1000),
    "e2e_p50_s": ("e2e_p50_s", 1),
    "e2e_p99_s": ("e2e_p99_s", 1),
    "good_fraction": ("good_fraction", 1),
    "good_request_per_s": ("good_request_s", 1),
    "mean_concurrency": ("under_way", 1),
    "mean_running": ("running", 1),
    "mean_queued": ("queued", 1),
}
"""Field of `LoadRow` -> last segment of the name in a sink, and the sink's unit over ours."""

CURVES = (
    ("Output throughput", "output_tok_s", "tok/s"),
    ("Time to first token, p99", "ttft_p99_ms", "ms"),
    ("Time per output token, median", "tpot_p50_ms", "ms"),
    ("Share of good requests", "good_fraction", ""),
)
"""What is drawn over the points of a sweep: title, last segment of the name, unit."""

AXES = {"closed": "concurrency", "sessions": "concurrency", "open": "rate_per_s", "ramp": "rate_per_s"}
"""What a shape of load varies; others vary their speed."""


def history(points: Iterable[tuple[int, PointId]], report: Report, target: str) -> tuple[Row, ...]:
    """A row for each load point that has results, under the step that the schedule gives it."""
    rows = {(row.target, row.sweep, row.value): row for row in report.serving if row.target == target}
    found: list[Row] = []
    times: dict[PointId, int] = {}
    for step, point in points:
        times[point] = times.get(point, 0) + 1
        row = rows.get(point)
        if row is not None and row.runs:
            found.append(Row(step, _values(row) | {"serving/attempt": times[point]}))
    return tuple(found)


def _values(row: LoadRow) -> dict[str, Scalar]:
    about: dict[str, Scalar] = {
        SERVING_X: row.value, f"serving/{axis_of(row)}": row.value, "serving/sweep": row.sweep,
        "serving/kind": row.kind, "serving/load": row.load, "serving/runs": len(row.runs),
        "serving/requests": row.num_requests,
    }  # fmt: skip
    figures = _figures(row, "serving/")
    return finite(about | figures | curve_values(figures, "serving/", row.sweep, CURVES))


def axis_of(row: LoadRow) -> str:
    """Name of what a point's sweep varies."""
    return AXES.get(row.kind, "speed")


def _figures(row: LoadRow, prefix: str) -> dict[str, Scalar]:
    """Medians over the runs, and the ends where there are several."""
    found: dict[str, Scalar] = {}
    for name, (last, factor) in NAMES.items():
        value: Spread | float | None = getattr(row, name)
        if isinstance(value, Spread):
            found[f"{prefix}{last}"] = value.median * factor
            if value.num > 1:
                found[f"{prefix}{last}_min"] = value.min * factor
                found[f"{prefix}{last}_max"] = value.max * factor
        elif value is not None:
            found[f"{prefix}{last}"] = value * factor
    return found


def summary(report: Report, target: str) -> dict[str, Scalar]:
    """Flat keys of all points and searches: `serving/SWEEP/c16/ttft_p99_ms`, `search/SWEEP/found`."""
    found: dict[str, Scalar | None] = {}
    rows = [row for row in report.serving if row.target == target]
    for row in rows:
        prefix = f"serving/{place(row)}/"
        found |= _figures(row, prefix)
        found[f"{prefix}output_cost_per_1m_tokens"] = row.output_price_per_million_tokens
        # Sent where there is none too: one that was refuted must not stay.
        found[f"{prefix}findings"] = ", ".join(row.findings)
        if row.kind == "closed":
            found[f"{prefix}on_front"] = row.on_front
    peaks = [row.output_tok_per_s.median for row in rows if row.output_tok_per_s is not None]
    if peaks:
        found["serving/peak_output_tok_s"] = max(peaks)
    for search in report.searches:
        if search.target == target:
            found |= _search(search)
    return finite(found)


def place(row: LoadRow) -> str:
    """A point as part of a name: users/c16, rates/r2_5."""
    return f"{segment(row.sweep)}/{axis_of(row)[0]}{segment_of(row.value)}"


def _search(row: SearchRow) -> dict[str, Scalar | None]:
    prefix = f"search/{segment(row.sweep)}"
    return {
        f"{prefix}/over": row.over, f"{prefix}/found": row.found, f"{prefix}/broke_at": row.broke_at,
        f"{prefix}/ended": row.ended, f"{prefix}/probes": len(row.probes),
    }  # fmt: skip


def segment_of(value: float) -> str:
    """A number as part of a name: 16, 2_5."""
    return f"{value:g}".replace(".", "_").replace("+", "").replace("-", "m")
