"""`raybench publish`: show a run elsewhere, again and again if need be, from its ledger alone."""

from pathlib import Path
from typing import Annotated

import typer


def publish(  # noqa: PLR0913, PLR0917 - the flags of one command
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Folder of a run.", show_default=False)],
    sink: Annotated[
        str | None, typer.Option("--sink", metavar="wandb|parquet|trackio|mlflow", help="This sink only.")
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", metavar="offline|online", help="Mode of W&B.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Project in W&B.")] = None,
    entity: Annotated[str | None, typer.Option("--entity", help="Team or user in W&B.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Publish until the run is over.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare several run folders, each target with the first one's first.")
    ] = False,
    attempt: Annotated[
        str, typer.Option("--attempt", help="Label that makes new run ids; W&B never takes a deleted one again.")
    ] = "",
) -> None:
    """Publish a run folder; state in publish.json. Exit code 0: read back and whole; 27: not."""
    import os

    from raybench.errors import PublishError
    from raybench.publish.settings import Flags
    from raybench.publish.supervise import Order, supervise

    if compare != (len(run_dirs) > 1):
        raise typer.BadParameter("--compare takes two run folders or more; without it, one is published")
    if follow and compare:
        raise typer.BadParameter("--follow is for one run that goes on; --compare for runs that are over")
    if sink not in (None, "wandb", "parquet", "trackio", "mlflow"):
        raise typer.BadParameter(f"--sink {sink}: known sinks are wandb, parquet, trackio, mlflow")
    if compare and sink not in (None, "wandb"):
        raise typer.BadParameter("--compare makes a comparison in W&B; for Parquet see `raybench compare`")
    flags = Flags.model_validate(
        {"sink": "wandb" if compare else sink, "mode": mode, "project": project, "entity": entity, "attempt": attempt}
    )
    order = Order(tuple(run_dirs), flags, follow)
    if not supervise(order, os.environ, typer.echo):
        raise typer.Exit(PublishError.exit_code)
