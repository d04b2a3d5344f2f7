"""After the loop: publishing in a process of its own, and the exit code that the session's failures ask for."""

import os
import sys
from pathlib import Path

from raybench import process
from raybench.config.schema import RunConfig
from raybench.errors import EXIT_BUG, ClientError, EngineDied, EngineStartError, NodeLost
from raybench.ledger.view import RunView
from raybench.records import Cause

PUBLISH_LIMIT_S = 120.0

EXIT_BY_CAUSE: dict[Cause, int | None] = {
    "engine_start": EngineStartError.exit_code,
    "engine_died": EngineDied.exit_code,
    "timeout": EngineDied.exit_code,
    "node_lost": NodeLost.exit_code,
    "client": ClientError.exit_code,
    "bug": EXIT_BUG,
    "stopped": None,
    "preflight": None,  # its finding is red, and that decides
}
"""Exit code when a unit was given up for this cause."""


def infrastructure_exit(view: RunView) -> int | None:
    """Exit code of the first unit that was given up for such a fault and is still missing; None when there is none.

    Checks bring no results: one that could not be made is a finding.
    """
    for failed in view.failed:
        settled = failed.key in view.done or failed.key in view.planned_checks or failed.key in view.dropped
        if failed.failure.given_up and not settled:
            code = EXIT_BY_CAUSE[failed.failure.cause]
            if code is not None:
                return code
    return None


def publish(folder: Path, config: RunConfig) -> str:
    """Run the publisher of a finished run folder as a child; returns one line for the user. Never raises."""
    if config.publish.wandb.mode == "disabled":
        return "W&B: disabled by the configuration"
    retry = f"retry with: {Path(sys.executable).name} -m raybench.publish {folder}"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    secrets = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    env = process.child_environment({"PYTHONPATH": path} | secrets)
    try:
        code, output = process.run(
            [sys.executable, "-m", "raybench.publish", str(folder)], env=env, timeout_s=PUBLISH_LIMIT_S
        )
    except OSError as error:
        return f"W&B: the publisher did not start ({error.strerror}); {retry}"
    lines = [line for line in output.strip().splitlines() if line.strip()]
    if code == 124:
        return f"W&B: not published within {PUBLISH_LIMIT_S:.0f} s; {retry}"
    if code != 0:
        return f"W&B: not published ({lines[-1] if lines else f'exit code {code}'}); {retry}"
    return lines[-1] if lines else "W&B: published"
