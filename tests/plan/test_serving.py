"""Units of serving sweeps."""

import pytest
from load_ledgers import serving_config
from pydantic import JsonValue

from raybench.config.serving import ClosedSweep
from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import EngineReady, NodeJoined, RunUnit
from raybench.plan.expand import expand
from raybench.plan.serving import Files, loads_of
from raybench.records import LoadUnit
from raybench.records.loads import ClosedLoad, OpenLoad, RampLoad, ServingLoad, SessionsLoad, TraceLoad

LENGTHS: dict[str, JsonValue] = {"input_tokens": 500, "output_tokens": 60}
RAMP: JsonValue = {"load": "ramp", "start_rate": 0, "end_rate": 2, **LENGTHS}


def _turnovers(**given: int) -> list[int]:
    sweep = ClosedSweep(load="closed", concurrency=(1, 8, 64), input_tokens=64, output_tokens=32, **given)  # type: ignore[arg-type]
    return [load.turnovers for load in loads_of(sweep, Files()) if isinstance(load, ClosedLoad)]


def test_few_users_make_more_turnovers_where_a_number_of_requests_is_asked_for() -> None:
    assert _turnovers() == [8, 8, 8]
    assert _turnovers(turnovers=5, min_requests=100) == [100, 13, 5]


TRACE = TraceLoad(name="calm", at_s=(0.0, 1.0), input_tokens=(5, 5), output_tokens=(5, 5))


@pytest.mark.parametrize(("sweeps", "small"), [
    ([{"load": "closed", "concurrency": [64, 2, 8], **LENGTHS}], ClosedLoad),
    ([{"load": "open", "rates": [8, 0.5, 2], **LENGTHS}], OpenLoad),
    ([{"load": "sessions", "concurrency": [64, 1, 8], "turns": 3, **LENGTHS}], SessionsLoad),
    ([{"load": "open", "rates": [8], **LENGTHS}, RAMP], RampLoad),
    ([{"load": "open", "rates": [8, 1], **LENGTHS}], TraceLoad),
])  # fmt: skip
def test_the_load_with_the_fewest_requests_goes_first_whatever_is_longest(
    sweeps: list[JsonValue], small: type[ServingLoad]
) -> None:
    units = [unit for unit in expand(serving_config(*sweeps), {}).units if unit.target == "alpha"]
    if small is TraceLoad:  # its file is not needed here
        units.append(units[0].model_copy(update={"key": "trace", "sweep": "trace", "load": TRACE}))
    for given in (units, units[::-1]):
        dispatcher = Dispatcher(given, {0: ("alpha",)})
        dispatcher.handle(NodeJoined("n0", 0, frozenset(["h"])))
        [run] = dispatcher.handle(EngineReady("n0"))
        assert isinstance(run, RunUnit) and isinstance(run.unit, LoadUnit)
        assert isinstance(run.unit.load, small)
        if isinstance(run.unit.load, ClosedLoad | SessionsLoad):
            assert run.unit.load.concurrency == min(sweeps[0]["concurrency"])  # type: ignore[index,call-overload,type-var]
        elif isinstance(run.unit.load, OpenLoad):
            assert run.unit.load.rate_per_s == 0.5
