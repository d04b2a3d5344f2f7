"""`python -m raybench.publish RUN_DIR`: publish a run folder's `report.json`.

The ledger's configuration says where to; options override it. State and errors go to `publish.json`, one line of them
to the output. Exit code 0: published; 27: not. Whoever starts this sets a wall limit and lets neither change the exit
code of a run.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import cast

from raybench.config.publish import WandbConfig
from raybench.errors import PublishError
from raybench.ledger.journal import read
from raybench.ledger.view import fold
from raybench.publish.names import runs
from raybench.publish.state import WANDB_FOLDER, PublishState, write_state
from raybench.report.model import Report
from raybench.report.write import JSON

_ACCESS = ("WANDB_API_KEY", "WANDB_BASE_URL")
"""What online mode needs of the environment."""


def main(words: list[str]) -> int:
    """Publish; never raises for what a sink does."""
    parser = argparse.ArgumentParser(prog="python -m raybench.publish", description="Publish a run folder to W&B.")
    parser.add_argument("folder", type=Path, help="run folder that holds report.json")
    parser.add_argument("--mode", choices=("offline", "online"), help="other mode than the configuration's")
    parser.add_argument("--project", help="other project")
    parser.add_argument("--entity", help="other team or user")
    given = parser.parse_args(words)
    folder = cast(Path, given.folder).absolute()
    settings = WandbConfig()
    try:
        settings = _settings(folder, {name: getattr(given, name) for name in ("mode", "project", "entity")})
        report = Report.model_validate_json((folder / JSON).read_bytes())
        state = _publish(report, settings, folder)
    except Exception as error:  # noqa: BLE001  a sink may raise anything, and all of it means the same
        message = f"{type(error).__name__}: {error}"[:500]
        if folder.is_dir():
            write_state(folder, PublishState(state="failed", mode=settings.mode, error=message))
        sys.stdout.write(f"W&B: {message.splitlines()[0]}\n")
        return PublishError.exit_code
    where = f"; send them with: wandb sync {folder / WANDB_FOLDER}/offline-run-*" if settings.mode == "offline" else ""
    sys.stdout.write(f"W&B: {len(state.runs)} {settings.mode} runs with {state.rows} rows{where}\n")
    return 0


def _settings(folder: Path, given: dict[str, str | None]) -> WandbConfig:
    """The ledger's settings with what was given laid over them. Raises LedgerError, ValueError."""
    configured = fold(read(folder)).config.publish.wandb
    changes = {name: value for name, value in given.items() if value is not None}
    merged = WandbConfig.model_validate(configured.model_dump() | changes)
    if merged.mode == "disabled":
        raise PublishError("the configuration disables it; say --mode offline or --mode online")
    return merged


def _publish(report: Report, settings: WandbConfig, folder: Path) -> PublishState:
    write_state(folder, PublishState(state="running", mode=settings.mode))
    _isolate(folder)
    # Late: W&B reads its environment when it is imported, and without a report nothing of it is loaded.
    from raybench.publish import wandb as sink  # noqa: PLC0415

    done: list[str] = []
    rows = 0
    try:
        for run in runs(report):
            rows += sink.publish_run(run, settings, folder)
            done.append(run.id)
    finally:
        sink.close()
    state = PublishState(state="published", mode=settings.mode, runs=tuple(done), rows=rows)
    write_state(folder, state)
    return state


def _isolate(folder: Path) -> None:
    """Point W&B at the run folder, its own configuration, cache and staging included, and drop what else steers it."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name not in _ACCESS]:
        del os.environ[name]
    inside = folder / WANDB_FOLDER
    inside.mkdir(exist_ok=True)
    os.environ["WANDB_DIR"] = str(folder)
    for what in ("config", "cache", "data"):
        os.environ[f"WANDB_{what.upper()}_DIR"] = str(inside / what)
    # Offline mode sends telemetry all the same, and a network that swallows packets then delays the exit by seconds.
    os.environ["WANDB_ERROR_REPORTING"] = "false"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
