"""`raybench models`: the models and shapes that raybench makes by itself."""

from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(no_args_is_help=True, help="List or make the models that need no download.", rich_markup_mode=None)


@models.command("list")
def list_models() -> None:
    """Print the names that `model.path` and `raybench models make` take."""
    from raybench.engine.models import MADE

    typer.echo("\n".join(MADE))


@models.command("make")
def make(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Name, such as tiny:trained.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make it in.", show_default=False)],
    python: Annotated[
        Path | None, typer.Option("--python", help="Interpreter with tokenizers (and torch, for tiny:).")
    ] = None,
) -> None:
    """Make one model below OUT and print its folder; without --python the engine environment is used (and made)."""
    from raybench.engine.environment import resolve
    from raybench.engine.models import MADE, make_model
    from raybench.errors import ConfigError

    if spec not in MADE:
        raise ConfigError(f"raybench makes no model {spec!r}; it makes: {', '.join(MADE)}")

    def progress(line: str) -> None:
        typer.echo(line, err=True)

    interpreter = python if python is not None else resolve("auto", progress).python
    typer.echo(make_model(spec, out, interpreter, progress))
