"""Whether this machine can do what is asked of it: told before anything is started."""

from raybench.config.schema import Managed, RunConfig, engine_of
from raybench.engine.managed import check_machine


def check_this_machine(config: RunConfig) -> None:
    """For runs on a private cluster, whose nodes are this machine. Raises InterpreterError."""
    for target in config.targets:
        engine = engine_of(config, target)
        if engine.kind == "sglang" and isinstance(engine.environment, Managed):
            wanted = engine.environment.managed
            check_machine(f"managed {wanted.device} {wanted.version}")
