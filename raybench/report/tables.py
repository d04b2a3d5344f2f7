"""The tables of a report: headers and cells as text, laid out by the page that shows them. Pure."""

from dataclasses import dataclass

from raybench.report import numbers
from raybench.report.model import ArgRow, Comparison, PerfRow, Report, Spread, TargetRow


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells; the first `num_left` columns are aligned to the left, all others to the right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_left: int = 0


def markdown_table(table: Table) -> str:
    """A table whose source can be read as it stands: cells are padded to the width of their column."""
    grid = [table.headers, *table.rows]
    grid = [tuple(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in grid]
    widths = [max(3, *(len(row[column]) for row in grid)) for column in range(len(table.headers))]

    def line(cells: tuple[str, ...]) -> str:
        padded = (
            cell.ljust(width) if column < table.num_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rules = ("-" * width if c < table.num_left else "-" * (width - 1) + ":" for c, width in enumerate(widths))
    return "\n".join([line(grid[0]), f"| {' | '.join(rules)} |", *(line(row) for row in grid[1:])])


def with_findings(table: Table, codes: list[tuple[str, ...]]) -> Table:
    """The table with a last column of its rows' codes, if there are any."""
    if not any(codes):
        return table
    rows = ((*row, ", ".join(f"`{code}`" for code in own)) for row, own in zip(table.rows, codes, strict=True))
    return Table((*table.headers, "Findings"), tuple(rows), table.num_left)


def perf_table(rows: list[PerfRow]) -> Table:
    """The columns of SGLang's own tool, medians over repeats."""
    headers = (
        "Batch Size", "Input Len", "Latency (s)", "Input Throughput (tok/s)", "Output Throughput (tok/s)", "ITL (ms)",
        "Repeats", "Latency Spread",
    )  # fmt: skip
    cells = [
        (
            str(row.batch_size), str(row.input_tokens), numbers.seconds(_median(row.latency_s)),
            numbers.rate(_median(row.input_tok_per_s)), numbers.rate(_median(row.output_tok_per_s)),
            numbers.itl(_median(row.itl_ms)), f"{len(row.repeats)} of {row.num_planned}",
            numbers.half_range(row.latency_s),
        )
        for row in rows
    ]  # fmt: skip
    return with_findings(Table(headers, tuple(cells)), [row.findings for row in rows])


def detail_table(rows: list[PerfRow]) -> Table:
    """Times to first token, steady state, per GPU, prices and power; columns without any value are left out."""
    columns: list[tuple[str, list[str]]] = [
        ("Batch Size", [str(row.batch_size) for row in rows]),
        ("TTFT First (ms)", [numbers.milliseconds(_median(row.first_ttft_s)) for row in rows]),
        ("TTFT Median (ms)", [numbers.milliseconds(_median(row.median_ttft_s)) for row in rows]),
        ("TTFT Last (ms)", [numbers.milliseconds(_median(row.last_ttft_s)) for row in rows]),
        ("Steady Output (tok/s)", [numbers.rate(_median(row.steady_output_tok_per_s)) for row in rows]),
        ("Steady ITL (ms)", [numbers.itl(_median(row.steady_itl_ms)) for row in rows]),
        ("Overall (tok/s)", [numbers.rate(_median(row.overall_tok_per_s)) for row in rows]),
        ("Output per GPU (tok/s)", [numbers.rate(row.output_tok_per_s_per_gpu) for row in rows]),
        ("Input Cost per 1M", [numbers.price(row.input_price_per_million_tokens) for row in rows]),
        ("Output Cost per 1M", [numbers.price(row.output_price_per_million_tokens) for row in rows]),
        ("Power (W)", [numbers.watts(row.mean_power_w) for row in rows]),
    ]
    kept = [(name, cells) for name, cells in columns if any(cell != numbers.NONE for cell in cells)]
    return Table(tuple(name for name, _ in kept), tuple(zip(*(cells for _, cells in kept), strict=True)))


def range_table(rows: list[PerfRow]) -> Table:
    """Ends over the repeats."""
    headers = ("Batch Size", "Latency (s)", "TTFT Last (ms)", "Output Throughput (tok/s)", "ITL (ms)")
    cells = [
        (
            str(row.batch_size), _ends(row.latency_s, numbers.seconds), _ends(row.last_ttft_s, numbers.milliseconds),
            _ends(row.output_tok_per_s, numbers.rate), _ends(row.itl_ms, numbers.itl),
        )
        for row in rows
    ]  # fmt: skip
    return Table(headers, tuple(cells))


def comparison_table(comparison: Comparison) -> Table:
    """Ratios by batch size; the price column only with prices."""
    headers = ("Batch Size", "Latency", "TTFT Last", "Input Throughput", "Output Throughput", "ITL", "Output Cost")
    cells = [
        (
            str(row.batch_size), numbers.times(row.latency), numbers.times(row.last_ttft),
            numbers.times(row.input_throughput), numbers.times(row.output_throughput), numbers.times(row.itl),
            numbers.times(row.output_price),
        )
        for row in comparison.rows
    ]  # fmt: skip
    table = Table(headers, tuple(cells))
    if all(row.output_price is None for row in comparison.rows):
        table = Table(headers[:-1], tuple(row[:-1] for row in cells))
    return with_findings(table, [row.findings for row in comparison.rows])


def reference_table(comparison: Comparison, perf: tuple[PerfRow, ...]) -> Table:
    """Published figures and this run's, side by side, with the ratio."""
    headers = (
        "Batch Size", "ITL (ms)", "published", "ratio", "Output (tok/s)", "published", "ratio", "Input (tok/s)",
        "published", "ratio",
    )  # fmt: skip
    own = {row.batch_size: row for row in perf if (row.target, row.sweep) == (comparison.target, comparison.sweep)}
    cells: list[tuple[str, ...]] = []
    for row, published in zip(comparison.rows, comparison.reference_rows, strict=True):
        mine = own[row.batch_size]
        cells.append(
            (
                str(row.batch_size),
                numbers.itl(_median(mine.itl_ms)), numbers.itl(published.itl_ms),
                numbers.times(row.itl, with_range=False),
                numbers.rate(_median(mine.output_tok_per_s)), numbers.rate(published.output_tok_per_s),
                numbers.times(row.output_throughput, with_range=False),
                numbers.rate(_median(mine.input_tok_per_s)), numbers.rate(published.input_tok_per_s),
                numbers.times(row.input_throughput, with_range=False),
            )
        )  # fmt: skip
    return with_findings(Table(headers, tuple(cells)), [row.findings for row in comparison.rows])


def startup_table(report: Report) -> Table:
    """Phases of every engine start; a phase that no start has gets no column, `total` stands last."""
    names = list(dict.fromkeys(phase.name for row in report.startup for phase in row.phases))
    names.sort(key=lambda name: name == "total")
    headers = ("Target", "Start", *(f"{name.replace('_', ' ')} (s)" for name in names))
    cells: list[tuple[str, ...]] = []
    for row in report.startup:
        durations = {phase.name: phase.duration_s for phase in row.phases}
        cells.append(
            (row.target, row.start, *(f"{durations[n]:.1f}" if n in durations else numbers.NONE for n in names))
        )
    return Table(headers, tuple(cells), num_left=2)


def memory_table(report: Report) -> Table | None:
    """Memory of rank 0; None where no engine says anything."""
    headers = (
        "Target", "Weights (GiB)", "KV Cache (GiB)", "CUDA Graphs (GiB)", "Left (GiB)", "Tokens in the Cache",
    )  # fmt: skip
    cells: list[tuple[str, ...]] = []
    for target in report.targets:
        memory = target.memory
        capacity = target.token_capacity if memory is None or memory.token_capacity is None else memory.token_capacity
        if memory is None and capacity is None:
            continue
        sizes = (
            [memory.weights_gib, memory.kv_cache_gib, memory.cuda_graph_gib, memory.available_gib]
            if memory
            else [None] * 4
        )
        written = (numbers.NONE if size is None else f"{size:.2f}" for size in sizes)
        cells.append((target.name, *written, numbers.NONE if capacity is None else f"{capacity:,}"))
    return Table(headers, tuple(cells), num_left=1) if cells else None


def target_table(report: Report) -> Table:
    """What ran, one column for each target."""
    rows: list[tuple[str, ...]] = []
    for name, values in (
        ("Accelerator", [target.accelerator for target in report.targets]),
        ("GPUs of a node", [_joined(target.gpus) for target in report.targets]),
        ("CPU", [_joined(target.cpus) for target in report.targets]),
        ("Driver", [_joined(target.drivers) for target in report.targets]),
        ("Nodes asked for", [str(target.num_nodes) for target in report.targets]),
        ("Nodes used", [_joined(target.nodes_used) for target in report.targets]),
        ("Machines used", [str(target.num_hosts) for target in report.targets]),
        ("Engine", [_engine(target) for target in report.targets]),
        ("Environment", [_joined(target.interpreters) for target in report.targets]),
        ("Model revision", [_joined(target.model_revisions) for target in report.targets]),
        ("Price per GPU-hour", [_price(target) for target in report.targets]),
        ("Flags", [_flags(target) for target in report.targets]),
        (
            "Variables",
            [", ".join(f"{k}={v}" for k, v in target.env.items()) or numbers.NONE for target in report.targets],
        ),
        ("Units done", [f"{target.num_units_done} of {target.num_units}" for target in report.targets]),
        ("Samples done", [f"{target.num_samples_done} of {target.num_samples}" for target in report.targets]),
    ):
        if any(value != numbers.NONE for value in values):
            rows.append((name, *values))
    return Table(("", *(target.name for target in report.targets)), tuple(rows), num_left=1 + len(report.targets))


def argument_table(arguments: tuple[ArgRow, ...], targets: tuple[str, ...]) -> Table:
    """Resolved arguments that differ."""
    cells = [
        (row.name, *(_word(row.values.get(name)) for name in targets), "configuration" if row.asked else "the engines")
        for row in arguments
    ]
    return Table(("Argument", *targets, "Chosen by"), tuple(cells), num_left=2 + len(targets))


def failure_table(report: Report) -> Table | None:
    """Attempts that did not end well; None without any."""
    cells = [
        (target.name, row.what, str(row.attempt), row.node or numbers.NONE, row.cause,
         "redone" if row.redone else "missing", row.message)
        for target in report.targets
        for row in target.failures
    ]  # fmt: skip
    headers = ("Target", "Unit", "Attempt", "Node", "Cause", "Outcome", "What happened")
    return Table(headers, tuple(cells), num_left=7) if cells else None


def _median(value: Spread | None) -> float | None:
    return None if value is None else value.median


def _ends(value: Spread | None, write: numbers.Writer) -> str:
    return numbers.NONE if value is None else numbers.ends(write(value.min), write(value.max))


def _joined(values: tuple[str, ...]) -> str:
    return "; ".join(values) or numbers.NONE


def _engine(target: TargetRow) -> str:
    if target.simulated:
        return f"simulated, time x {target.time_scale:g}"
    return f"{target.engine} {', '.join(target.engine_versions)}".strip()


def _price(target: TargetRow) -> str:
    return numbers.NONE if target.price_per_gpu_hour is None else f"{target.price_per_gpu_hour:.2f}"


def _flags(target: TargetRow) -> str:
    words = [f"--{name}" if value is True else f"--{name} {value}" for name, value in target.args.items()]
    return " ".join(words) or numbers.NONE


def _word(value: object) -> str:
    return numbers.NONE if value is None else str(value)
