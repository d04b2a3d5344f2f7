"""`raybench compare`: targets of several runs side by side, from their Parquet history."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Run folders, or data sets of Parquet.", show_default=False),
    ],
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="TARGET@SWEEP", help="Ratios over this one. Default: the first.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="Compared column of the data set.")] = "output_tok_s",
) -> None:
    """Print one metric and the scores of every run in the data sets, with ratios to the first."""
    from rich.console import Console

    from raybench.publish.history import accuracy_table, read_history, speed_tables

    history = read_history(folders)
    console = Console(highlight=False)
    for table in speed_tables(history, metric, baseline):
        console.print(table)
    if history.evals:
        console.print(accuracy_table(history))
