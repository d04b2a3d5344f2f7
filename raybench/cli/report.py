"""`raybench report`: make the report of a run again, from its ledger alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from raybench.report.grades import MovedGrade

MAX_LISTED = 100
"""Samples that are listed one by one."""


def report(
    run_dir: Annotated[str, typer.Argument(metavar="RUN_DIR", help="Folder or URL of a run.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="End with 33 when a gate is inconclusive.")] = False,
    save_reference: Annotated[
        Path | None,
        typer.Option("--save-reference", metavar="FILE", help="Save the scores as references for later gates."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Target that --save-reference takes, where there are several.")
    ] = None,
    regrade: Annotated[
        bool,
        typer.Option("--regrade", help="List the samples that this version grades otherwise than the last report."),
    ] = False,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="List the samples on which math-verify disagrees. Never counts.")
    ] = False,
) -> None:
    """Write report.md and report.json of a run again and print them; the exit code is the verdict's."""
    from rich.console import Console

    from raybench.config.reference_file import save_references
    from raybench.driver.finish import infrastructure_exit
    from raybench.driver.folder import readable
    from raybench.ledger.journal import read
    from raybench.ledger.view import fold
    from raybench.report.references import measured_numerics, measured_references
    from raybench.report.terminal import print_report
    from raybench.report.write import exit_code_of, moved_grades, write_report

    if target is not None and save_reference is None:
        raise typer.BadParameter("--target belongs to --save-reference")
    with readable(run_dir, put_back=True) as folder:
        before = moved_grades(folder) if regrade else None
        made = write_report(folder)
        console = Console(highlight=False)
        print_report(made, console)
        view = fold(read(folder))
        if save_reference is not None:
            entries = measured_references(view, made, target)
            numerics = measured_numerics(view, made, target)
            save_references(save_reference, entries, numerics)
            names = ", ".join([entry.eval for entry in entries] + (["log-probabilities"] if numerics else []))
            console.print(
                f"reference: {names} of {entries[0].target} in {save_reference}", markup=False, soft_wrap=True
            )
        if regrade:
            _print_moved(before)
        if second_opinion:
            _print_disagreements(folder)
    raise typer.Exit(exit_code_of(made, infrastructure_exit(view), strict=strict))


def _print_moved(found: "tuple[MovedGrade, ...] | None") -> None:
    if found is None:
        typer.echo("regrade: no earlier grades are stored in this folder; those of this version now are")
        return
    typer.echo(f"regrade: {_samples(len(found))} moved since the last report")
    for one in found[:MAX_LISTED]:
        old, new = one.before, one.after
        typer.echo(
            f"  {new.target} {new.eval} {new.question} repeat {new.repeat}: {old.outcome} ({old.value or 'none'}) -> "
            f"{new.outcome} ({new.value or 'none'})"
        )
    _print_rest(len(found))


def _print_disagreements(run_dir: Path) -> None:
    from raybench.driver.opinion import second_opinions

    heard = second_opinions(run_dir)
    typer.echo(
        f"second opinion: {_samples(heard.num_asked)} judged by math-verify, {heard.num_silent} without an opinion, "
        f"{len(heard.disagreements)} times grader_disagreement (the score stays as it is)"
    )
    for one in heard.disagreements[:MAX_LISTED]:
        typer.echo(
            f"  grader_disagreement: {one.target} {one.eval} {one.question} repeat {one.repeat}: {one.outcome} "
            f"(read {one.value or 'nothing'}), math-verify says {'right' if one.right else 'wrong'}"
        )
    _print_rest(len(heard.disagreements))


def _samples(number: int) -> str:
    return f"{number} sample{'' if number == 1 else 's'}"


def _print_rest(number: int) -> None:
    if number > MAX_LISTED:
        typer.echo(f"  ... and {number - MAX_LISTED} more")
