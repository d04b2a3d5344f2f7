"""The `preflight` part of a configuration."""

from raybench.config.reference import NumericsReference
from raybench.records import Record


class PreflightConfig(Record):
    """Checks of every node before its first scored sample; a run without evals has none."""

    enabled: bool = True
    """False: no checks; a wrong template or a low limit is then found only after the samples are answered."""
    stop: bool = True
    """False: evals go on although a check said stop; its red finding still makes the result INVALID."""
    reference: str | NumericsReference | None = None
    """File that `raybench report RUN_DIR --save-reference FILE` wrote, relative to the configuration: the
    log-probabilities in it are held against every node's. They take the file's place when the configuration is read."""

    @property
    def numerics(self) -> NumericsReference | None:
        """What the reference file holds; None without one. Raises ValueError when the file was never read."""
        if isinstance(self.reference, str):
            raise ValueError(f"preflight: the reference file {self.reference} was not read (use config.read)")
        return self.reference
