"""The `preflight` part of a configuration."""

from raybench.records import Record


class PreflightConfig(Record):
    """Checks of every node before its first scored sample; a run without evals has none."""

    enabled: bool = True
    """False: no checks; a wrong template or a low limit is then found only after the samples are answered."""
    stop: bool = True
    """False: evals go on although a check said stop; its red finding still makes the result INVALID."""
