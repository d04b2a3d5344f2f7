"""The section "Serving" of every page: points of serving loads, throughput against interactivity, searches. Pure."""

from collections.abc import Sequence
from typing import Literal

from raybench.records.loads import Slo
from raybench.records.serving import NEEDED, Percentiles
from raybench.report import numbers
from raybench.report.front import front_blocks
from raybench.report.model import Report
from raybench.report.serving_model import LoadRatioRow, LoadRow, ProbeRow, SearchRow
from raybench.report.spread import Spread
from raybench.report.tables import Table, markdown_table, with_findings

NOTE = (
    "Requests that arrive over time. Medians over the runs of a point; percentiles are of the requests that were sent "
    "in the steady part of a run, never of two runs together. TTFT, TPOT (time per output token after the first) and "
    "E2E count from the scheduled time where requests have one, else from the sending. Rates count what was read in "
    "the steady part. *Per user* is one over the median TPOT; *good* is the share of the sent requests that kept the "
    "SLO."
)
FAILED = "failed"
FAILED_NOTE = (
    "A request that failed counts as never answered: a percentile of any run that falls on one is *failed*. *Failed* "
    "counts those of all runs, outside of their steady parts too; *Samples* are those that were answered."
)
ERROR_NOTE = (
    "The client's own error on this machine, against a server of known truth (`raybench calibrate`), at as many "
    "streams or more: said minus true."
)
RESULTS = {"held": "kept", "broke": "broken", "short": "too short", "void": "does not count"}
_TAILS = (
    ("TTFT (ms)", "ttft_s"), ("TPOT (ms)", "tpot_s"), ("ITL (ms)", "itl_s"), ("Longest gap (ms)", "longest_gap_s"),
    ("E2E (ms)", "e2e_s"),
)  # fmt: skip


def serving_section(report: Report) -> list[str]:
    """Blocks of Markdown; none where no serving load was planned."""
    if not report.serving and not report.searches:
        return []
    blocks = ["## Serving", NOTE]
    runs = [run for row in report.serving for run in row.runs]
    runs += [probe.run for search in report.searches for probe in search.probes]
    if any(run.figures.num_failed for run in runs):
        blocks.append(FAILED_NOTE)
    simulated = {target.name for target in report.targets if target.simulated}
    for rows in _sweeps(report.serving):
        banner = " (SIMULATED)" if rows[0].target in simulated else ""
        blocks.append(f"### {rows[0].target}{banner}: {rows[0].sweep}, {rows[0].load}")
        blocks.append(markdown_table(point_table(rows)))
        blocks += ["Tails of every run:", markdown_table(tail_table(rows))]
        if (errors := error_table(rows)) is not None:
            blocks += [ERROR_NOTE, markdown_table(errors)]
    for (target, baseline), ratios in _pairs(report.serving_ratios).items():
        blocks.append(f"### {target} against {baseline}, serving")
        blocks.append(
            f"Each cell is {target} / {baseline}, of the medians over the runs, with the smallest and largest ratio "
            "that the runs allow. Throughput at a given rate says nothing; below 1 is better for latencies."
        )
        blocks.append(markdown_table(ratio_table(ratios)))
    blocks += front_blocks(report)
    for row in report.searches:
        banner = " (SIMULATED)" if row.target in simulated else ""
        blocks.append(f"### {row.target}{banner}: {row.sweep}, {row.load}")
        blocks.append(f"{search_sentence(row)} SLO: {slo_words(row.slo)}. How it ended: {row.reason}.")
        if row.probes:
            blocks.append(markdown_table(probe_table(row.probes, row.over)))
    return blocks


def point_table(rows: Sequence[LoadRow]) -> Table:
    """One line for each point; columns without any value are left out."""
    failed = [sum(run.figures.num_failed for run in row.runs) for row in rows]
    columns: list[tuple[str, list[str]]] = [
        ("Point", [row.point for row in rows]),
        ("Requests/s", [_number(row.request_per_s) for row in rows]),
        ("Input (tok/s)", [numbers.rate(_median(row.input_tok_per_s)) for row in rows]),
        ("Output (tok/s)", [numbers.rate(_median(row.output_tok_per_s)) for row in rows]),
        ("Output per GPU (tok/s)", [numbers.rate(row.output_tok_per_s_per_gpu) for row in rows]),
        ("Per user (tok/s)", [_number(row.tok_per_s_per_user) for row in rows]),
        ("TTFT p50 (ms)", [ttft_cell(row, "p50") for row in rows]),
        ("TTFT p99 (ms)", [ttft_cell(row, "p99") for row in rows]),
        ("TPOT p50 (ms)", [numbers.itl(_ms(row.tpot_p50_s)) for row in rows]),
        ("TPOT p99 (ms)", [_or_failed(row, ("tpot_s", "p99"), numbers.itl(_ms(row.tpot_p99_s))) for row in rows]),
        ("E2E p50 (s)", [_or_failed(row, ("e2e_s", "p50"), numbers.seconds(_median(row.e2e_p50_s))) for row in rows]),
        ("Good", [_share(row.good_fraction) for row in rows]),
        ("Under way", [_number(row.mean_concurrency) for row in rows]),
        ("Running", [_number(row.mean_running) for row in rows]),
        ("Queued", [_number(row.mean_queued) for row in rows]),
        ("Output Cost per 1M", [numbers.price(row.output_price_per_million_tokens) for row in rows]),
        ("Requests", [f"{row.num_requests:,}" for row in rows]),
        ("Failed", [f"{number:,}" if any(failed) else numbers.NONE for number in failed]),
        ("Runs", [f"{len(row.runs)} of {row.num_planned}" for row in rows]),
    ]
    kept = [(name, cells) for name, cells in columns if any(cell != numbers.NONE for cell in cells)]
    cells = tuple(zip(*(cells for _, cells in kept), strict=True))
    return with_findings(Table(tuple(name for name, _ in kept), cells, num_left=1), [row.findings for row in rows])


def ttft_cell(row: LoadRow, level: Literal["p50", "p99"]) -> str:
    """A level of TTFT in milliseconds, or that it falls on a request that failed."""
    value = row.ttft_p50_s if level == "p50" else row.ttft_p99_s
    return _or_failed(row, ("ttft_s", level), numbers.milliseconds(_median(value)))


def _or_failed(row: LoadRow, place: tuple[str, str], cell: str) -> str:
    return FAILED if any(run.figures.is_failed(*place) for run in row.runs) else cell


def tail_table(rows: Sequence[LoadRow]) -> Table:
    """Percentiles of every run of every point, with the samples behind them."""
    headers = ("Point", "Run", "What", "Samples", "p50", "p90", "p95", "p99", "p99.9", "Largest")
    cells: list[tuple[str, ...]] = []
    for row in rows:
        for run in row.runs:
            for what, name in _TAILS:
                found = getattr(run.figures, name)
                if isinstance(found, Percentiles):
                    place = f"{run.launch + 1}.{run.repeat + 1}"
                    levels = (
                        FAILED if found.is_failed(level) else _short_ms(getattr(found, level)) for level in NEEDED
                    )
                    cells.append((row.point, place, what, f"{found.num:,}", *levels))
    return Table(headers, tuple(cells), num_left=3)


def error_table(rows: Sequence[LoadRow]) -> Table | None:
    """The client's own error behind every point; None where it was not measured."""
    headers = (
        "Point", "Streams", "Calibrated at", "Processes", "TTFT mean (ms)", "TTFT p99 (ms)", "Gap p99 (ms)",
        "Throughput",
    )  # fmt: skip
    cells: list[tuple[str, ...]] = []
    for row in rows:
        for run in row.runs[:1]:
            worst = None if run.calibration is None or run.streams is None else run.calibration.worst(run.streams)
            if worst is None:
                continue
            errors = (worst.ttft_mean_s, worst.ttft_p99_s, worst.gap_p99_s)
            cells.append(
                (
                    row.point, str(run.streams), str(worst.streams), str(worst.num_processes),
                    *(f"{1000 * each.error:+.2f}" for each in errors), f"{100 * worst.tok_per_s.error_fraction:+.2f}%",
                )
            )  # fmt: skip
    return Table(headers, tuple(cells), num_left=1) if cells else None


def error_lines(report: Report) -> list[str]:
    """The client's own error on every target, the largest of all points, in a sentence; none where not measured."""
    found: list[str] = []
    for target in dict.fromkeys(row.target for row in (*report.serving, *report.searches)):
        runs = [run for row in report.serving if row.target == target for run in row.runs]
        runs += [probe.run for search in report.searches if search.target == target for probe in search.probes]
        points = [
            point
            for run in runs
            if run.calibration is not None and run.streams is not None
            for point in run.calibration.at(run.streams)
        ]
        if not points:
            continue
        errors = [
            (
                1e3 * point.ttft_mean_s.error, 1e3 * point.ttft_p99_s.error, 1e3 * point.gap_p99_s.error,
                1e2 * point.tok_per_s.error_fraction,
            )
            for point in points
        ]  # fmt: skip
        worst = [max(column, key=abs) for column in zip(*errors, strict=True)]
        bad = any(point.excesses for point in points)
        found.append(
            f"The client's own error on {target}, at most: TTFT {worst[0]:+.2f} ms (p99 {worst[1]:+.2f} ms), p99 gap "
            f"{worst[2]:+.2f} ms, throughput {worst[3]:+.2f}%{'; beyond 2% and 2 ms at flagged points' if bad else ''}."
        )
    return found


def ratio_table(rows: Sequence[LoadRatioRow]) -> Table:
    """Two targets, point by point."""
    headers = ("Sweep", "Point", "Output Throughput", "TTFT p50", "TPOT p50", "E2E p50")
    cells = [
        (
            row.sweep, row.point, numbers.times(row.output_throughput), numbers.times(row.ttft_p50),
            numbers.times(row.tpot_p50), numbers.times(row.e2e_p50),
        )
        for row in rows
    ]  # fmt: skip
    return with_findings(Table(headers, tuple(cells), num_left=2), [row.findings for row in rows])


def _pairs(rows: Sequence[LoadRatioRow]) -> dict[tuple[str, str], list[LoadRatioRow]]:
    found: dict[tuple[str, str], list[LoadRatioRow]] = {}
    for row in rows:
        found.setdefault((row.target, row.baseline), []).append(row)
    return found


def probe_table(probes: Sequence[ProbeRow], over: str) -> Table:
    """The curve of a search, in the order in which it was made."""
    headers = (
        "Probe", "For", "Requests/s" if over == "rate" else "Users", "SLO", "Good", "TTFT p50 (ms)", "TTFT p99 (ms)",
        "TPOT p50 (ms)", "Output (tok/s)", "Why",
    )  # fmt: skip
    cells: list[tuple[str, ...]] = []
    for probe in probes:
        seen = probe.run.figures
        good = None if seen.goodput is None else seen.goodput.good_fraction
        cells.append(
            (
                str(probe.number + 1), f"{probe.role}, again" if probe.again else probe.role, _value(probe.value),
                RESULTS[probe.result],
                numbers.NONE if good is None else f"{100 * good:.1f}%",
                *(
                    FAILED if seen.is_failed("ttft_s", level)
                    else numbers.milliseconds(None if seen.ttft_s is None else getattr(seen.ttft_s, level))
                    for level in ("p50", "p99")
                ),
                numbers.itl(None if seen.tpot_s is None else 1000 * seen.tpot_s.p50),
                numbers.rate(seen.output_tok_per_s), probe.reason,
            )
        )  # fmt: skip
    return Table(headers, tuple(cells), num_left=2)


def search_sentence(row: SearchRow) -> str:
    """What a search found, in a sentence."""
    unit = "requests/s" if row.over == "rate" else "users"
    if not row.ended:
        return f"The search was cut off after {len(row.probes)} probes; --resume goes on."
    if row.found is None:
        return f"No number of {unit} is known to keep the SLO."
    above = "the highest value that was to be tried" if row.broke_at is None else f"broken at {_value(row.broke_at)}"
    return f"**{_value(row.found)} {unit}** keep the SLO ({above}), confirmed with other arrivals and prompts."


def search_lines(report: Report) -> list[str]:
    """One line for every search, for the summary and for a terminal."""
    return [f"**{row.sweep}** on **{row.target}**: {search_sentence(row)}" for row in report.searches]


def slo_words(slo: Slo) -> str:
    """An SLO in words."""
    scaled = f" + {slo.ttft_ms_per_1k_input:g} ms per 1,000 prompt tokens" if slo.ttft_ms_per_1k_input else ""
    parts = [
        None if slo.ttft_ms is None else f"TTFT {slo.ttft_ms:g} ms{scaled}",
        None if slo.tpot_ms is None else f"TPOT {slo.tpot_ms:g} ms",
        None if slo.longest_gap_ms is None else f"longest gap {slo.longest_gap_ms:g} ms",
        None if slo.e2e_s is None else f"E2E {slo.e2e_s:g} s",
    ]
    return f"{', '.join(part for part in parts if part)} for {100 * slo.share:g}% of the requests"


def _sweeps(rows: Sequence[LoadRow]) -> list[list[LoadRow]]:
    found: dict[tuple[str, str], list[LoadRow]] = {}
    for row in rows:
        found.setdefault((row.target, row.sweep), []).append(row)
    return list(found.values())


def _median(value: Spread | None) -> float | None:
    return None if value is None else value.median


def _value(value: float) -> str:
    return f"{value:g}" if value == int(value) else f"{value:.4g}"


def _ms(value: Spread | None) -> float | None:
    return None if value is None else 1000 * value.median


def _number(value: Spread | None) -> str:
    return numbers.NONE if value is None else f"{value.median:,.1f}" if value.median >= 10 else f"{value.median:.2f}"


def _share(value: Spread | None) -> str:
    return numbers.NONE if value is None else f"{100 * value.median:.1f}%"


def _short_ms(value: float | None) -> str:
    return numbers.NONE if value is None else f"{1000 * value:,.1f}"
