"""`raybench doctor`: what is wrong with a cluster file, before it costs anything."""

from pathlib import Path
from typing import Annotated

import typer

_MARKS = {"error": "ERROR", "fill_in": "FILL IN", "warning": "WARNING"}


def doctor(
    cluster: Annotated[
        Path, typer.Option("--cluster", metavar="FILE", help="File for `ray up`, or a RayJob.", show_default=False)
    ],
) -> None:
    """Check a cluster file against Ray's schema and lint what that lets through. Starts nothing."""
    from raybench.driver.cluster_file import check_cluster_file
    from raybench.errors import ConfigError

    found = check_cluster_file(cluster)
    for lint in found:
        typer.echo(f"{_MARKS[lint.severity]:<8}{lint.words}")
    num_errors = sum(lint.severity == "error" for lint in found)
    num_open = sum(lint.severity == "fill_in" for lint in found)
    if num_errors or num_open:
        rest = len(found) - num_errors - num_open
        raise ConfigError(f"{cluster}: {num_errors} errors, {num_open} values to fill in, {rest} warnings")
    typer.echo(f"{cluster}: fit for use, {len(found)} warning{'' if len(found) == 1 else 's'}")
