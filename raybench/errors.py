"""One error class per boundary of the house, each with the exit code that the command line ends with.

Exit codes are a contract: 10-19 configuration, 20-29 infrastructure. Verdicts (30-33) are not errors: they are read off
the report. Requests and samples never raise; they end as records with a status.
"""

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INVALID = 30
EXIT_INCOMPLETE = 31
EXIT_GATE_FAILED = 32
EXIT_INCONCLUSIVE = 33
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class RaybenchError(Exception):
    """Base of everything that a user is told in one message: what happened, where, and what to do."""

    exit_code = EXIT_BUG

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[type["RaybenchError"], tuple[str]]:
        # The type must survive the way through Ray, which pickles exceptions.
        return (type(self), (self.message,))


class ConfigError(RaybenchError):
    """The configuration file, a `--set` or a combination of settings is wrong."""

    exit_code = 10


class PlanError(RaybenchError):
    """The plan cannot be made, or differs from the one that a run folder was started with."""

    exit_code = 11


class RowsError(RaybenchError):
    """An eval's rows cannot be read, or lack a column that the eval needs."""

    exit_code = 12


class LedgerError(RaybenchError):
    """A run folder or its ledger is foreign, newer than this version, or damaged beyond its last line."""

    exit_code = 13


class NotBegun(LedgerError):
    """A run folder that is there before its ledger: the run waits for its machines."""


class ClusterError(RaybenchError):
    """The Ray cluster cannot be reached or cannot meet the demands of the configuration."""

    exit_code = 20


class InterpreterError(RaybenchError):
    """An engine's interpreter is missing or could not be built."""

    exit_code = 21


class EngineStartError(RaybenchError):
    """An engine did not become ready: a refused flag, a missing model, a taken port, a time-out or a death."""

    exit_code = 22


class EngineRefused(EngineStartError):
    """An engine that no further try can start: the cause is its settings, its model or its interpreter."""


class EngineDied(RaybenchError):
    """An engine that had been ready ended while it was needed."""

    exit_code = 23


class NodeLost(RaybenchError):
    """A node's actor or machine is gone."""

    exit_code = 24


class ClientError(RaybenchError):
    """The load client itself failed: it ended without a result."""

    exit_code = 25


class StorageError(RaybenchError):
    """A folder cannot be written or read: missing rights, no space, no locks, not a folder."""

    exit_code = 26


class PublishError(RaybenchError):
    """A sink refused the results. Never changes the exit code of a run."""

    exit_code = 27
