"""The command line. Few flags: everything that shapes a measurement stands in the configuration.

Modules of the commands import their work inside the command, so that `raybench --help` stays quick.
"""

import os
import sys
import traceback
from typing import Annotated

import typer

from raybench import __version__
from raybench.cli.calibrate import calibrate
from raybench.cli.compare import compare
from raybench.cli.doctor import doctor
from raybench.cli.models import models
from raybench.cli.plan import plan
from raybench.cli.publish import publish
from raybench.cli.report import report
from raybench.cli.run import run
from raybench.cli.schema import schema
from raybench.cli.status import status
from raybench.cli.submit import submit
from raybench.errors import EXIT_BUG, EXIT_SIGINT, RaybenchError

app = typer.Typer(
    name="raybench",
    help="Benchmark LLM serving on Ray: perf sweeps and evals on every target, one ledger, one report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raybench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Benchmark LLM serving on Ray: perf sweeps and evals on every target, one ledger, one report."""


app.command()(run)
app.command()(submit)
app.command()(status)
app.command()(doctor)
app.command()(plan)
app.command()(report)
app.command()(publish)
app.command()(compare)
app.command()(schema)
app.command()(calibrate)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line and end the process with the exit code of the contract."""
    try:
        app()
    except RaybenchError as error:
        typer.secho(f"error: {error.message}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_SIGINT)
    except BrokenPipeError:
        # The reader (`| head`) is gone; the interpreter must not complain about it while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BUG)
    except Exception:  # noqa: BLE001 - the last place that can say whose fault it is
        traceback.print_exc()
        typer.secho(
            f"error: this is a bug of ours in raybench {__version__}; please report it with the lines above.",
            fg=typer.colors.RED,
            err=True,
        )
        sys.exit(EXIT_BUG)
