"""`raybench report`: make the report of a run again, from its ledger alone."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="End with 33 when a gate is inconclusive.")] = False,
) -> None:
    """Write report.md and report.json of a run again and print them; the exit code is the verdict's."""
    from rich.console import Console

    from raybench.driver.finish import infrastructure_exit
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold
    from raybench.report.terminal import print_report
    from raybench.report.write import exit_code_of, write_report

    made = write_report(run_dir)
    print_report(made, Console(highlight=False))
    raise typer.Exit(exit_code_of(made, infrastructure_exit(fold(read(run_dir))), strict=strict))
