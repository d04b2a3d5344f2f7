"""Tables of serving loads: every run of every point, and the probes of every search with what they say. Pure."""

from raybench.publish.content import Cell, Table
from raybench.publish.privacy import clean
from raybench.publish.serving import axis_of
from raybench.report.model import Report
from raybench.report.serving_model import LoadRunRow

RUN_COLUMNS = (
    "requests", "sent", "request_s", "output_tok_s", "ttft_p50_ms", "ttft_p99_ms", "tpot_p50_ms", "tpot_p99_ms",
    "e2e_p50_s", "good_fraction",
)  # fmt: skip


def loads(report: Report, target: str) -> Table:
    """The runs of every point, which stay apart: no percentile is of requests of two runs."""
    columns = ("sweep", "kind", "axis", "x", "repeat", "launch", "node", "start", "attempt", *RUN_COLUMNS)
    rows = tuple(
        (row.sweep, row.kind, axis_of(row), row.value, r.repeat, r.launch, r.node, r.start, r.attempt, *_figures(r))
        for row in sorted(report.serving, key=lambda one: (one.sweep, one.value)) if row.target == target
        for r in row.runs
    )  # fmt: skip
    return Table("tables/loads", columns, rows)


def probes(report: Report, target: str) -> Table:
    """The curves of all searches, probe by probe."""
    columns = ("search", "over", "probe", "role", "x", "result", "reason", "node", "start", *RUN_COLUMNS)
    rows = tuple(
        (search.sweep, search.over, p.number, p.role, p.value, p.result, clean(p.reason), p.run.node, p.run.start,
         *_figures(p.run))
        for search in report.searches if search.target == target
        for p in search.probes
    )  # fmt: skip
    return Table("tables/probes", columns, rows)


def _figures(run: LoadRunRow) -> tuple[Cell, ...]:
    seen = run.figures
    return (
        seen.num_requests, seen.num_sent, seen.request_per_s, seen.output_tok_per_s,
        _ms(seen.ttft_s and seen.ttft_s.p50), _ms(seen.ttft_s and seen.ttft_s.p99),
        _ms(seen.tpot_s and seen.tpot_s.p50), _ms(seen.tpot_s and seen.tpot_s.p99),
        seen.e2e_s.p50 if seen.e2e_s else None, seen.goodput.good_fraction if seen.goodput else None,
    )  # fmt: skip


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
