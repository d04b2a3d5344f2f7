"""Serving loads in a terminal: one table for each sweep, one line for each search. Fits 80 columns."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from raybench.report import numbers
from raybench.report.model import Report
from raybench.report.serving_model import LoadRow
from raybench.report.serving_page import error_lines, search_lines, ttft_cell
from raybench.report.spread import Spread


def print_serving(report: Report, console: Console) -> None:
    """Print what serving loads came to; nothing where none was planned."""
    for sweep in dict.fromkeys(row.sweep for row in report.serving):
        rows = [row for row in report.serving if row.sweep == sweep]
        console.print()
        console.print(Text(f"{sweep}: {rows[0].load}", style="bold"))
        console.print(_table(rows))
        if any(row.findings for row in rows):
            console.print(Text("! a finding is about this point", style="yellow"))
    for line in error_lines(report):
        console.print(Text(line))
    if report.searches:
        console.print()
    for line in search_lines(report):
        console.print(Text(line.replace("**", ""), style="bold"))


def _table(rows: list[LoadRow]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("point", no_wrap=True)
    table.add_column("target", overflow="fold")
    for name in ("req/s", "out tok/s", "tok/s/user", "TTFT p50", "p99 ms", "TPOT ms", "good"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda one: one.value):
        tpot = row.tpot_p50_s
        table.add_row(
            Text(f"!{row.point}" if row.findings else row.point, style="yellow" if row.findings else ""), row.target,
            _number(row.request_per_s), numbers.rate(_median(row.output_tok_per_s)), _number(row.tok_per_s_per_user),
            ttft_cell(row, "p50"), ttft_cell(row, "p99"),
            numbers.itl(None if tpot is None else 1000 * tpot.median),
            numbers.NONE if row.good_fraction is None else f"{100 * row.good_fraction.median:.0f}%",
        )  # fmt: skip
    return table


def _median(value: Spread | None) -> float | None:
    return None if value is None else value.median


def _number(value: Spread | None) -> str:
    return numbers.NONE if value is None else f"{value.median:,.1f}" if value.median >= 10 else f"{value.median:.2f}"
