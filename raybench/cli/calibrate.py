"""`raybench calibrate`: the load client's own error on this machine."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from raybench.records.calibration import Calibration, CalibrationPoint


def calibrate(
    streams: Annotated[str, typer.Option(help="Numbers of streams, such as 1,64,256.")] = "1,16,64,256",
    pattern: Annotated[str, typer.Option(help="ticks, steps (all streams emit at once, as engines do) or both.")] = "both",
    route: Annotated[str, typer.Option(help="generate, chat or completions.")] = "generate",
    ttft_ms: Annotated[float, typer.Option(help="Time to first token of the mock.")] = 50.0,
    itl_ms: Annotated[float, typer.Option(help="Time between tokens of the mock.")] = 10.0,
    output_tokens: Annotated[int, typer.Option(help="Tokens of a reply.")] = 64,
    chunk_tokens: Annotated[int, typer.Option(help="Tokens of a chunk.")] = 1,
    max_processes: Annotated[int, typer.Option(help="Client processes at most; 0 = half of the CPUs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure the client against a server of known truth; ends with 30 if a number of streams does not hold."""
    from raybench.client.calibrate import ROUTES, MockShape, patterns_of
    from raybench.client.calibrate import calibrate as measure_all
    from raybench.errors import EXIT_INVALID, ConfigError

    try:
        counts = [int(text) for text in streams.split(",")]
    except ValueError as error:
        raise ConfigError(f"--streams {streams!r}: expected numbers, such as 1,64,256") from error
    if min(counts) < 1 or output_tokens < 2 or chunk_tokens < 1 or ttft_ms < 0 or itl_ms <= 0:
        raise ConfigError("--streams and --chunk-tokens start at 1, --output-tokens at 2, and --itl-ms is above 0")
    if route not in ROUTES or pattern not in ("ticks", "steps", "both"):
        raise ConfigError(f"--route is one of {', '.join(ROUTES)}; --pattern is ticks, steps or both")
    shape = MockShape(ttft_ms * 1e-3, itl_ms * 1e-3, output_tokens, chunk_tokens, route=ROUTES[route])
    most = max_processes or max(len(os.sched_getaffinity(0)) // 2, 1)
    found = measure_all(counts, patterns_of(pattern), shape, most, lambda point: _tell(point, as_json))
    typer.echo(found.model_dump_json(indent=2)) if as_json else _print(found)
    if any(found.processes_for(num) is None for num in counts):
        raise typer.Exit(EXIT_INVALID)


def _tell(point: "CalibrationPoint", as_json: bool) -> None:
    if not as_json:
        said = "; ".join(point.excesses) or "holds"
        typer.echo(f"{point.streams} streams, {point.pattern}, {point.num_processes} processes: {said}", err=True)


def _print(found: "Calibration") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"client {found.client_version} on {found.num_cpus} CPUs shared with the server; TTFT {found.ttft_s * 1e3:g} ms, "
        f"ITL {found.itl_s * 1e3:g} ms, {found.output_tokens} tokens over {found.route}; milliseconds, said - true"
    )
    table = Table(
        "streams", "pattern", "processes", "TTFT mean", "TTFT p99", "gap mean", "gap p99", "throughput", "client CPU",
        "tok/CPU-s", "server late p99", "", box=None,
    )  # fmt: skip
    for point in found.points:
        quantities = (point.ttft_mean_s, point.ttft_p99_s, point.gap_mean_s, point.gap_p99_s)
        table.add_row(
            str(point.streams), point.pattern, str(point.num_processes),
            *(f"{each.said * 1e3:.2f} - {each.true * 1e3:.2f} = {each.error * 1e3:+.2f}" for each in quantities),
            f"{point.tok_per_s.error_fraction:+.2%}", f"{point.cpu_fraction or 0:.0%}", f"{point.tok_per_cpu_s or 0:,.0f}",
            f"{(point.server_late_p99_s or 0) * 1e3:.2f}", "; ".join(point.excesses) or "holds",
        )  # fmt: skip
    console.print(table)
