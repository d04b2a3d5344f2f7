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
    "withdrawn": None,
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
