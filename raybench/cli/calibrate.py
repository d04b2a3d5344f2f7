"""`raybench calibrate`: the load client's own error on this machine."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from raybench.client.calibrate import MockShape
    from raybench.records.calibration import Calibration, CalibrationPoint


def calibrate(
    streams: Annotated[str, typer.Option(help="Numbers of streams, such as 1,64,256.")] = "1,16,64,256",
    pattern: Annotated[
        str, typer.Option(help="ticks, steps (all streams emit at once, as engines do) or both.")
    ] = "both",
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What the mock streams: ttft_s=0.05, itl_s=0.01, output_tokens=64, chunk_tokens=1, input_tokens=128, "
            "route=/generate; may be given several times.",
        ),
    ] = None,
    max_processes: Annotated[int, typer.Option(min=0, help="Client processes at most; 0 = half of the CPUs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure the client against a server of known truth; ends with 30 if a number of streams does not hold."""
    from raybench.client.calibrate import calibrate as measure_all
    from raybench.client.calibrate import patterns_of
    from raybench.errors import EXIT_INVALID

    counts = _counts(streams)
    if pattern not in ("ticks", "steps", "both"):
        raise typer.BadParameter(f"{pattern!r} is none of ticks, steps, both", param_hint="--pattern")
    most = max_processes or max(len(os.sched_getaffinity(0)) // 2, 1)
    found = measure_all(counts, patterns_of(pattern), _shape(shape or ()), most, _tell)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _print(found)
    if any(found.processes_for(num) is None for num in counts):
        raise typer.Exit(EXIT_INVALID)


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise typer.BadParameter(f"expected numbers such as 1,64,256, found {text!r}", param_hint="--streams")
    return counts


def _shape(settings: Sequence[str]) -> "MockShape":
    from dataclasses import fields

    from pydantic import TypeAdapter, ValidationError

    from raybench.client.calibrate import MockShape

    given = {name: value for name, _, value in (setting.partition("=") for setting in settings)}
    known = [field.name for field in fields(MockShape)]
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--shape")
    try:
        return TypeAdapter(MockShape).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{name}: {first['msg']}", param_hint="--shape") from error


def _tell(point: "CalibrationPoint") -> None:
    said = "; ".join(point.excesses) or "holds"
    typer.echo(f"{point.streams} streams, {point.pattern}, {point.num_processes} processes: {said}", err=True)


def _print(found: "Calibration") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"client {found.client_version} on {found.num_cpus} CPUs shared with the server; TTFT {found.ttft_s * 1e3:g} "
        f"ms, ITL {found.itl_s * 1e3:g} ms, {found.output_tokens} tokens over {found.route}"
    )
    console.print("milliseconds as the client said them, and its error against what was true")
    table = Table(
        "streams", "pattern", "procs", "TTFT", "error", "p99", "error", "gap p99", "error", "tok/s", "error", "CPU", "",
        box=None,
    )  # fmt: skip
    for point in found.points:
        times = (point.ttft_mean_s, point.ttft_p99_s, point.gap_p99_s)
        table.add_row(
            str(point.streams), point.pattern, str(point.num_processes),
            *(text for each in times for text in (f"{each.said * 1e3:.1f}", f"{each.error * 1e3:+.2f}")),
            f"{point.tok_per_s.said:,.0f}", f"{point.tok_per_s.error_fraction:+.1%}", f"{point.cpu_fraction or 0:.0%}",
            "FLAGGED" if point.excesses else "holds",
        )  # fmt: skip
    console.print(table)
    for point in found.points:
        if point.excesses:
            console.print(
                f"{point.streams} streams, {point.pattern}, {point.num_processes} processes: "
                f"{'; '.join(point.excesses)} (p99 lateness of the server itself: "
                f"{(point.server_late_p99_s or 0) * 1e3:.1f} ms)"
            )
