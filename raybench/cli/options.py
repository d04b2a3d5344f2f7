"""Arguments that more than one command takes."""

from pathlib import Path
from typing import Annotated

import typer

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
