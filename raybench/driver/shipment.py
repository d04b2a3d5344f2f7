"""What a submitted job needs beside raybench: its configuration and the local files that this names, in one folder.

Ray copies the folder to the cluster as the job's working folder. Nothing else goes along, so that submitting from a
repository of gigabytes takes no longer than from an empty one.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from raybench.config.read import reference_files
from raybench.config.schema import RunConfig
from raybench.config.serving import ClosedSweep, OpenSweep, TraceSweep
from raybench.errors import ConfigError

ROWS_ENDINGS = (".jsonl", ".csv", ".parquet")
"""A relative `evals[].rows` with such an ending, or of an existing file, is a file; everything else is no matter of
ours."""


def ship(config: Path, settings: RunConfig, sets: Sequence[str], into: Path) -> tuple[Path, ...]:
    """Copy the configuration and its files to `into`; returns what was copied, relative to it. Raises ConfigError.

    `settings` is what the configuration and the `--set` assignments came to. The configuration comes to lie at the top,
    reference files where they are relative to it, rows, traces and texts where they are relative to the current folder:
    the job's driver finds all of them by the same words.
    """
    copied = [_copy(config, Path(config.name), into)]
    for named in reference_files(config, sets):
        if not _stays(named):
            copied.append(_copy(config.parent / named, _inside(named, "reference"), into))
    for named, what in dict.fromkeys(_beside_the_user(settings)):
        if not _stays(named):
            copied.append(_copy(Path(named), _inside(named, what), into))
    return tuple(dict.fromkeys(copied))


def _beside_the_user(settings: RunConfig) -> Iterator[tuple[str, str]]:
    """Files that the driver reads by their path from its working folder, and what they are."""
    for of_eval in settings.evals:
        if Path(of_eval.rows).suffix.lower() in ROWS_ENDINGS or Path(of_eval.rows).is_file():
            yield of_eval.rows, "rows"
    for sweep in settings.perf:
        if isinstance(sweep, TraceSweep):
            yield sweep.path, "trace"
        elif isinstance(sweep, ClosedSweep | OpenSweep) and sweep.texts is not None:
            yield sweep.texts, "texts"


def _stays(named: str) -> bool:
    """True: an absolute path, which is the cluster's own."""
    return named.startswith("~") or Path(named).is_absolute()


def _inside(named: str, what: str) -> Path:
    path = Path(named)
    if ".." in path.parts:
        raise ConfigError(
            f"{what}: {named} lies outside of the folder that a job can take along. Move the file beside the "
            "configuration, or give a path that is absolute and exists on the cluster."
        )
    return path


def _copy(source: Path, name: Path, into: Path) -> Path:
    try:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, into / name)
    except OSError as error:
        raise ConfigError(f"{source} cannot be copied for the job: {error.strerror}") from error
    return name
