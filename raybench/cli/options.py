"""Arguments that more than one command takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from raybench.ledger.view import RunView

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration, a YAML file.", show_default=False)]

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, such as engine.args.tp-size=8 or targets.h200.nodes=2. May be repeated.",
        show_default=False,
    ),
]

Earlier = Annotated[
    list[Path] | None,
    typer.Option(
        "--earlier",
        metavar="RUN_DIR",
        help="Earlier run of the same model: its lengths and speeds order the work and predict its time. "
        "May be repeated.",
        show_default=False,
    ),
]


def earlier_views(folders: list[Path] | None) -> "tuple[RunView, ...]":
    """Ledgers of earlier runs, read. Raises LedgerError."""
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold

    return tuple(fold(read(folder)) for folder in folders or ())
