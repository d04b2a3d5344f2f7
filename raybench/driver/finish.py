"""After the loop: the exit code that the session's failures ask for."""

from raybench.errors import EXIT_BUG, ClientError, EngineDied, EngineStartError, NodeLost
from raybench.ledger.view import RunView
from raybench.records import Cause

EXIT_BY_CAUSE: dict[Cause, int | None] = {
    "engine_start": EngineStartError.exit_code,
    "engine_died": EngineDied.exit_code,
    "timeout": EngineDied.exit_code,
    "node_lost": NodeLost.exit_code,
    "client": ClientError.exit_code,
    "bug": EXIT_BUG,
    "stopped": None,
}
"""Exit code when a unit was given up for this cause."""


def infrastructure_exit(view: RunView) -> int | None:
    """Exit code of the first unit that was given up and is still missing; None when there is none."""
    for failed in view.failed:
        if failed.failure.given_up and failed.key not in view.done:
            return EXIT_BY_CAUSE[failed.failure.cause]
    return None
