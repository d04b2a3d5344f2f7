"""What a submitted job needs beside raybench: its configuration and the local files that this names, in one folder.

Ray copies the folder to the cluster as the job's working folder. Nothing else goes along, so that submitting from a
repository of gigabytes takes no longer than from an empty one.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from raybench.config.read import reference_files
from raybench.config.schema import RunConfig
from raybench.errors import ConfigError

ROWS_ENDINGS = (".jsonl", ".csv", ".parquet")
"""A relative `evals[].rows` with such an ending, or of an existing file, is a file; everything else is no matter of
ours."""


def ship(config: Path, settings: RunConfig, sets: Sequence[str], into: Path) -> tuple[Path, ...]:
    """Copy the configuration and its files to `into`; returns what was copied, relative to it. Raises ConfigError.

    `settings` is what the configuration and the `--set` assignments came to. The configuration comes to lie at the top,
    reference files where they are relative to it, rows where they are relative to the current folder: the job's driver
    finds all of them by the same words.
    """
    copied = [_copy(config, Path(config.name), into)]
    for named in reference_files(config, sets):
        if not _stays(named):
            copied.append(_copy(config.parent / named, _inside(named, "reference"), into))
    for rows in dict.fromkeys(settings_of.rows for settings_of in settings.evals):
        path = Path(rows)
        if not _stays(rows) and (path.suffix.lower() in ROWS_ENDINGS or path.is_file()):
            copied.append(_copy(path, _inside(rows, "rows"), into))
    return tuple(dict.fromkeys(copied))


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
