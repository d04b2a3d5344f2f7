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
    list[str] | None,
    typer.Option(
        "--earlier",
        metavar="RUN_DIR",
        help="Earlier run of the same model, a folder or a URL: its lengths and speeds order the work and predict its "
        "time. May be repeated.",
        show_default=False,
    ),
]

Fewer = Annotated[
    bool, typer.Option("--start-with-fewer", help="Begin when every target has a node; others join as they come.")
]

KeepWarm = Annotated[
    str | None,
    typer.Option(
        "--keep-warm",
        metavar="DURATION",
        help="Servers outlive a driver that is stopped or dies, for so long (such as 30m): --resume with --keep-warm "
        "takes them over.",
        show_default=False,
    ),
]

MIN_WARM_S = 60.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(duration: str | None) -> float | None:
    """Seconds of a duration such as 90s, 30m or 2h. Raises typer.BadParameter."""
    if duration is None:
        return None
    number, unit = duration[:-1], _UNITS.get(duration[-1:])
    if unit is None or not number.isdecimal() or int(number) * unit < MIN_WARM_S:
        raise typer.BadParameter(f"--keep-warm {duration}: say how long, at least a minute, such as 90s, 30m or 2h")
    return int(number) * unit


def warm_words(duration: str | None) -> list[str]:
    """The words that ask for it again. Raises typer.BadParameter."""
    return [] if seconds_of(duration) is None else ["--keep-warm", str(duration)]


def earlier_views(folders: list[str] | None) -> "tuple[RunView, ...]":
    """Ledgers of earlier runs, read. Raises LedgerError, StorageError."""
    from raybench.driver.folder import ledger_alone
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold

    views: list[RunView] = []
    for name in folders or ():
        with ledger_alone(name) as folder:
            views.append(fold(read(folder)))
    return tuple(views)
