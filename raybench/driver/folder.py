"""The run folder: where it is, and whether it can be written."""

import os
from pathlib import Path

from raybench.errors import ConfigError, LedgerError, StorageError
from raybench.ledger.journal import LEDGER

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the environment of a submitted job's driver."""

PROBE_BYTES = 65536
"""A run needs at least that; an empty file may be made on a file system that is full."""


def in_ray_job() -> bool:
    """True in a driver that `ray job submit` started."""
    return JOB_VARIABLE in os.environ


def outlives_a_job(folder: str) -> bool:
    """False for a folder that a job would look for in its copy of the working folder."""
    return Path(folder).is_absolute()


def choose(out: str | None, name: str, stamp: str, command: str) -> Path:
    """The run folder: `out` itself, or `runs/NAME-STAMP`. Raises ConfigError for a folder that a job would lose."""
    if in_ray_job() and (out is None or not outlives_a_job(out)):
        what = "no --out was given" if out is None else f"--out {out} is relative"
        raise ConfigError(
            f"{what}, but this is a Ray job: its working folder is a copy that vanishes with the job. Give an absolute "
            f"folder that outlives it, such as a shared mount: {command} --out /absolute/folder/{name}"
        )
    return Path(out) if out is not None else Path("runs") / f"{name}-{stamp}"


def check_resumable(folder: Path, command: str) -> None:
    """Raise ConfigError for a folder that a job would look for in its copy of the working folder."""
    if in_ray_job() and not folder.is_absolute():
        raise ConfigError(
            f"--resume {folder} is relative, but this is a Ray job: its working folder is a copy. Give the absolute "
            f"folder of the run: {command} --resume /absolute/folder/{folder.name}"
        )


def check_writable(folder: Path) -> None:
    """Make the folder and try to write into it, before anything is started.

    Raises StorageError, and LedgerError for a folder that holds a run already.
    """
    probe = folder / ".raybench-probe"
    try:
        if (folder / LEDGER).exists():
            raise LedgerError(
                f"{folder} already holds a ledger. Finish it with --resume {folder}, or give another --out for a new "
                "run."
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"x" * PROBE_BYTES)
        finally:
            probe.unlink(missing_ok=True)
    except FileExistsError as error:
        raise StorageError(f"{folder} is a file, not a folder. Give another --out.") from error
    except OSError as error:
        raise StorageError(f"cannot write the run folder {folder}: {error.strerror}. Give another --out.") from error
