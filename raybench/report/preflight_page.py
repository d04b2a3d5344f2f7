"""The report's section on the preflight: what every node's checks saw before its first scored sample. Pure."""

from collections.abc import Sequence

from raybench.ledger.view import RunView
from raybench.report.model import PreflightRow
from raybench.report.tables import Table, markdown_table
from raybench.validity.preflight import counting_checks

TITLE = "## Preflight"
LEAD = (
    "Checks of every node before its first scored sample. `stop` keeps the evals of a target from starting; what takes "
    "two nodes (prompt lengths, greedy replies, log-probabilities) stands among the findings."
)


def preflight_rows(view: RunView) -> tuple[PreflightRow, ...]:
    """One row for every check that counts, by target and node in the order in which they were made."""
    order = [target.name for target in view.config.targets]
    rows = [
        PreflightRow(
            target=checked.measurement.target, node=checked.node, start=checked.start,
            check=checked.measurement.check, route=checked.measurement.route, result=checked.measurement.result,
            words=checked.measurement.words, evidence=checked.measurement.evidence,
            num_requests=checked.measurement.num_requests, duration_s=checked.measurement.duration_s,
        )
        for checked in counting_checks(view)
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (order.index(row.target), row.node)))


def preflight_section(rows: Sequence[PreflightRow]) -> list[str]:
    """Blocks of the section; none where nothing was checked."""
    if not rows:
        return []
    cells = tuple((row.target, row.node, _name(row), row.result, row.words) for row in rows)
    requests, total_s = sum(row.num_requests for row in rows), sum(row.duration_s for row in rows)
    took = f"{requests:,} requests, {total_s:,.1f} s in all."
    return [
        TITLE,
        f"{LEAD} {took}",
        markdown_table(Table(("Target", "Node", "Check", "Result", "Seen"), cells, num_left=5)),
    ]


def _name(row: PreflightRow) -> str:
    return row.check if row.route == "chat" else f"{row.check} ({row.route})"
