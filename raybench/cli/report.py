"""`raybench report`: make the report of a run again, from its ledger alone."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="End with 33 when a gate is inconclusive.")] = False,
    save_reference: Annotated[
        Path | None,
        typer.Option("--save-reference", metavar="FILE", help="Save the scores as references for later gates."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Target that --save-reference takes, where there are several.")
    ] = None,
) -> None:
    """Write report.md and report.json of a run again and print them; the exit code is the verdict's."""
    from rich.console import Console

    from raybench.config.reference_file import save_references
    from raybench.driver.finish import infrastructure_exit
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold
    from raybench.report.references import measured_references
    from raybench.report.terminal import print_report
    from raybench.report.write import exit_code_of, write_report

    if target is not None and save_reference is None:
        raise typer.BadParameter("--target belongs to --save-reference")
    made = write_report(run_dir)
    console = Console(highlight=False)
    print_report(made, console)
    view = fold(read(run_dir))
    if save_reference is not None:
        entries = measured_references(view, made, target)
        save_references(save_reference, entries)
        names = ", ".join(entry.eval for entry in entries)
        console.print(f"reference: {names} of {entries[0].target} in {save_reference}", markup=False, soft_wrap=True)
    raise typer.Exit(exit_code_of(made, infrastructure_exit(view), strict=strict))
