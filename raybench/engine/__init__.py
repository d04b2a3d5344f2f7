"""Engines: what speaks SGLang's HTTP contract. A new engine is one new file and one line here."""

from raybench.engine.base import Engine, Launch


def make_engine(launch: Launch) -> Engine:
    """The engine of that kind, not yet started. Imports only what the kind needs."""
    match launch.engine.kind:
        case "sglang":
            from raybench.engine.sglang import SglangEngine

            return SglangEngine(launch)
        case "external":
            from raybench.engine.external import ExternalEngine

            return ExternalEngine(launch)
        case "simulated":
            from raybench.engine.simulated import SimulatedEngine

            return SimulatedEngine(launch)
