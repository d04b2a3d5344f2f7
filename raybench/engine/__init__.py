"""Engines behind one Protocol: launched SGLang, an endpoint that already runs, a simulated one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from raybench.engine.base import Engine, Launch


def make_engine(launch: "Launch", watch_pids: Sequence[int] = ()) -> "Engine":
    """The engine for `launch`, not started yet.

    `watch_pids`: processes (the machine's raylet) whose end must end a launched server too; the end of this process
    always does.
    """
    match launch.engine.kind:
        case "sglang":
            from raybench.engine.sglang import SglangEngine  # noqa: PLC0415 - each kind loads what it needs

            return SglangEngine(launch, watch_pids)
        case "external":
            from raybench.engine.external import ExternalEngine  # noqa: PLC0415

            return ExternalEngine(launch)
        case "simulated":
            from raybench.engine.simulated import SimulatedEngine  # noqa: PLC0415

            return SimulatedEngine(launch)
        case _:
            assert_never(launch.engine.kind)
