"""`raybench submit`: a run as a Ray job, followed to its end."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raybench.cli.options import Config, Earlier, Fewer, KeepWarm, Sets, warm_words

if TYPE_CHECKING:
    from raybench.config.schema import RunConfig
    from raybench.driver.job import JobClient, JobOrder

ADDRESS = "http://127.0.0.1:8265"
"""Where `ray dashboard cluster.yaml` forwards the head's job server to."""

Address = Annotated[
    str, typer.Option("--address", metavar="http://HOST:PORT", help="Job server (dashboard) of the cluster.")
]


def submit(  # noqa: PLR0913, PLR0917 - the flags of one command
    config: Config,
    sets: Sets = None,
    address: Address = ADDRESS,
    out: Annotated[str | None, typer.Option("--out", help="Run folder: absolute, or s3://bucket/run.")] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN_DIR", help="Finish what is missing in this run folder.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Run this target only.")] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME[=VALUE]",
            help="Variable for the driver and the nodes, such as HF_TOKEN. Ray's dashboard shows it. May be repeated.",
        ),
    ] = None,
    stop_grace_s: Annotated[
        float | None, typer.Option("--stop-grace-s", metavar="SECONDS", min=1, help="Time that a stopped driver has.")
    ] = None,
    wait_for_nodes_s: Annotated[
        float, typer.Option("--wait-for-nodes-s", metavar="SECONDS", min=0, help="Wait for machines that are missing.")
    ] = 0,
    start_with_fewer: Fewer = False,
    keep_warm: KeepWarm = None,
    earlier: Earlier = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Print the log until the job ends.")] = True,
) -> None:  # fmt: skip
    """Submit a run to a Ray cluster, print its log, and end with its exit code. Ctrl-C ends the view, not the job."""
    import os
    from tempfile import TemporaryDirectory

    from raybench.cli.run import flags, load_target
    from raybench.driver.job import STOP_GRACE_S, JobOrder, client_at
    from raybench.driver.job import submit as submit_job
    from raybench.driver.shipment import ship

    warm = warm_words(keep_warm)
    settings = load_target(config, sets, target)
    folder = _folder(settings, config, out, resume)
    variables = _variables(env or ())
    words = ["--out", out] if out is not None else ["--resume", str(resume)]
    if wait_for_nodes_s:
        words += ["--wait-for-nodes-s", f"{wait_for_nodes_s:g}"]
    words += ["--start-with-fewer"] * start_with_fewer
    words += [*warm, *_earlier_words(earlier)]
    client = client_at(address, os.environ)
    with TemporaryDirectory(prefix="raybench-submit-") as shipment:
        ship(config, settings, sets or (), Path(shipment))
        entrypoint = ("python", "-m", "raybench", "run", config.name, *flags(sets, target), *words)
        grace_s = STOP_GRACE_S if stop_grace_s is None else stop_grace_s
        about = _about(settings, config, folder)
        order = JobOrder(_new_id(settings.name), entrypoint, Path(shipment), variables, about, grace_s)
        submit_job(client, order, typer.echo)
    typer.echo(f"job {order.id} on {address}: {' '.join(entrypoint)}")
    typer.echo(f"results: {folder} (on the cluster)")
    if not follow:
        typer.echo(f"look at it with: raybench status {order.id} --address {address}")
        return
    again = ["raybench", "submit", str(config), *flags(sets, target), *warm, "--address", address, "--resume", folder]
    raise typer.Exit(_followed(client, order, address, again))


def _folder(settings: "RunConfig", config: Path, out: str | None, resume: str | None) -> str:
    """The run folder as the job will see it. Raises ConfigError for one that the job would lose."""
    from raybench.driver.folder import outlives_a_job
    from raybench.errors import ConfigError

    if out is not None and resume is not None:
        raise typer.BadParameter("--resume names the run folder already; leave --out away")
    folder = resume if out is None else out
    if folder is None or not outlives_a_job(folder):
        flag = "--out" if resume is None else "--resume"
        what = f"{flag} {folder} is relative" if folder is not None else "no --out was given"
        raise ConfigError(
            f"{what}, but a job's working folder is a copy that vanishes with the job. Give an absolute folder that "
            f"outlives it, such as a shared mount: raybench submit {config} {flag} /absolute/folder/{settings.name}"
        )
    return folder


def _earlier_words(folders: list[str] | None) -> list[str]:
    """The words that name earlier runs. Raises ConfigError for one that the job would not find."""
    from raybench.driver.folder import outlives_a_job
    from raybench.errors import ConfigError

    for folder in folders or ():
        if not outlives_a_job(folder):
            raise ConfigError(
                f"--earlier {folder} is relative, but the job does not see this folder. Give an absolute path that the "
                f"cluster's nodes see, such as a shared mount, or a URL: --earlier /absolute/folder/{Path(folder).name}"
            )
    return [word for folder in folders or () for word in ("--earlier", folder)]


def _variables(wanted: "list[str] | tuple[str, ...]") -> dict[str, str]:
    import os

    from raybench.errors import ConfigError

    found: dict[str, str] = {}
    for text in wanted:
        name, equals, value = text.partition("=")
        if not equals and name not in os.environ:
            raise ConfigError(f"--env {name}: there is no such variable here; set it, or give --env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _new_id(name: str) -> str:
    import datetime
    import secrets

    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"raybench-{name}-{stamp}-{secrets.token_hex(2)}"


def _about(settings: "RunConfig", config: Path, folder: str) -> dict[str, str]:
    """What the job's metadata say of the run."""
    from raybench import __version__
    from raybench.config.read import digest
    from raybench.driver.job import provenance

    return {
        "raybench": __version__, "name": settings.name, "config": config.name, "config_digest": digest(settings),
        "run_folder": folder, **provenance(config.absolute().parent),
    }  # fmt: skip


def _followed(client: "JobClient", order: "JobOrder", address: str, again: list[str]) -> int:
    import asyncio
    import shlex

    from raybench.driver.job import end_of, follow
    from raybench.errors import EXIT_INCOMPLETE, EXIT_SIGINT

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    stop = f"ray job stop {order.id} --address {address}"
    typer.echo(f"Ctrl-C ends this view, not the job; to stop the job: {stop}")
    try:
        end = end_of(asyncio.run(follow(client, order.id, write)))
    except KeyboardInterrupt:
        typer.echo(
            f"\nthe job goes on. Look at it: raybench status {order.id} --address {address}\n"
            f"its log: ray job logs --follow {order.id} --address {address}\n"
            f"stop it (it drains for up to {order.stop_grace_s:.0f} s and can be resumed): {stop}"
        )
        return EXIT_SIGINT
    typer.echo(f"job {order.id}: {end.words} (exit code {end.exit_code})")
    if end.exit_code == EXIT_INCOMPLETE or 20 <= end.exit_code < 30 or end.exit_code >= 128:
        typer.echo(f"finish what is missing with: {shlex.join(again)}")
    return end.exit_code
