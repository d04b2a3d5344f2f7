"""`raybench run`: measure what a configuration asks for, and report it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raybench.cli.options import Config, Earlier, Fewer, KeepWarm, Sets, earlier_views, seconds_of, warm_words

if TYPE_CHECKING:
    from rich.console import Console

    from raybench.config.schema import RunConfig
    from raybench.driver.folder import RunFolder
    from raybench.driver.run import Order


def run(  # noqa: PLR0913, PLR0917 - the flags of one command
    config: Config,
    sets: Sets = None,
    out: Annotated[
        str | None, typer.Option("--out", help="Run folder, or a URL such as s3://bucket/run. Default: runs/NAME-UTC.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN_DIR", help="Finish what is missing in this run folder.")
    ] = None,
    address: Annotated[str, typer.Option("--address", metavar="auto|local|HOST:PORT", help="Ray cluster.")] = "auto",
    target: Annotated[str | None, typer.Option("--target", help="Run this target only.")] = None,
    wait_for_nodes_s: Annotated[
        float, typer.Option("--wait-for-nodes-s", metavar="SECONDS", min=0, help="Wait for machines that are missing.")
    ] = 0,
    start_with_fewer: Fewer = False,
    keep_warm: KeepWarm = None,
    earlier: Earlier = None,
    hold_servers: Annotated[
        bool, typer.Option("--hold-servers", help="Keep the servers up at the end, print their URLs, and wait.")
    ] = False,
) -> None:
    """Run a configuration: start the engines, measure, write the ledger, report, publish."""
    from dataclasses import replace

    from rich.console import Console

    if out is not None and resume is not None:
        raise typer.BadParameter("--resume names the run folder already; leave --out away")
    keep_warm_s = seconds_of(keep_warm)
    console = Console(highlight=False)
    settings = load_target(config, sets, target)
    command = ("raybench", "run", config.name, *flags(sets, target))
    views = earlier_views(earlier)
    order, folder = _order(settings, command, (out, resume), address, hold_servers)
    order = replace(
        order, wait_s=wait_for_nodes_s, fewer=start_with_fewer, earlier=views, keep_warm_s=keep_warm_s
    )  # fmt: skip
    again = ["raybench", "run", str(config), *flags(sets, target), *warm_words(keep_warm)]
    raise typer.Exit(_carry_out(order, folder, [*again, "--resume", folder.name], console))


def load_target(config: Path, sets: list[str] | None, target: str | None) -> "RunConfig":
    """The configuration, cut down to one target where one is named. Raises ConfigError."""
    from raybench.config.read import load
    from raybench.errors import ConfigError
    from raybench.evals import presets_of

    settings = load(config, sets or (), presets_of)
    if target is None:
        return settings
    kept = tuple(t for t in settings.targets if t.name == target)
    if not kept:
        raise ConfigError(f"--target {target}: known targets are {', '.join(t.name for t in settings.targets)}")
    return settings.model_copy(update={"targets": kept})


def flags(sets: list[str] | None, target: str | None) -> tuple[str, ...]:
    """The flags that give the same configuration again."""
    words = [word for assignment in sets or () for word in ("--set", assignment)]
    return (*words, "--target", target) if target else tuple(words)


def _order(
    settings: "RunConfig", command: tuple[str, ...], folders: tuple[str | None, str | None], address: str, hold: bool
) -> "tuple[Order, RunFolder]":
    import datetime
    import secrets

    from raybench.driver.folder import choose, new_folder, old_folder
    from raybench.driver.run import Order
    from raybench.evals.rows import rows_of
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold
    from raybench.load.texts import texts_of
    from raybench.load.traces import traces_of
    from raybench.plan.expand import expand
    from raybench.plan.serving import Files

    out, resume = folders
    rows = rows_of(settings.evals)
    for note in (note for one in rows.values() for note in one.notes):
        typer.echo(f"note: {note}", err=True)
    plan = expand(settings, rows, Files(traces_of(settings.trace_sweeps), texts_of(settings.perf)))
    spoken = "python -m " + " ".join(command)
    if resume is not None:
        folder = old_folder(resume, spoken, typer.echo)
        run_id = fold(read(folder.path)).run.run_id
    else:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        folder = new_folder(choose(out, settings.name, stamp, spoken), typer.echo)
        run_id = f"{settings.name}-{secrets.token_hex(4)}"
    again = resume is not None
    return Order(settings, plan, folder.path, run_id, again, address, hold, command, mirror=folder.mirror), folder


def _carry_out(order: "Order", folder: "RunFolder", again: list[str], console: "Console") -> int:
    import shlex
    from contextlib import suppress

    from raybench.driver.finish import infrastructure_exit
    from raybench.driver.run import run as run_order
    from raybench.driver.screen import Screen
    from raybench.errors import RaybenchError
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold
    from raybench.publish import launch
    from raybench.report.terminal import print_report
    from raybench.report.write import exit_code_of, write_report

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    settings = order.config.publish
    publisher = launch.start(order.folder, follow=True) if settings.follow and launch.wanted(settings) else None
    try:
        outcome = run_order(order, lambda units, done: Screen(console, units, done), say)
        report = write_report(order.folder)
    except BaseException:
        with suppress(RaybenchError):
            folder.close()
        raise
    try:
        print_report(report, console)
    finally:
        folder.close()  # the reader of a pipe may be gone: what was measured goes to its store all the same
    say(f"report: {folder.name}/report.md")
    if outcome.signal_exit is None and launch.wanted(settings):
        publisher = publisher or launch.start(order.folder, follow=False)
        for line in [publisher] if isinstance(publisher, str) else launch.finish(publisher, settings):
            say(line)
    if report.verdict == "INCOMPLETE" or outcome.signal_exit is not None:
        say(f"finish what is missing with: {shlex.join(again)}")
    sys.stdout.flush()
    if outcome.signal_exit is not None:
        return outcome.signal_exit
    return exit_code_of(report, infrastructure_exit(fold(read(order.folder))), strict=False)
