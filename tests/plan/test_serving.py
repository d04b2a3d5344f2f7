"""Units of serving sweeps."""

from raybench.config.serving import ClosedSweep
from raybench.plan.serving import Files, loads_of
from raybench.records.loads import ClosedLoad


def _turnovers(**given: int) -> list[int]:
    sweep = ClosedSweep(load="closed", concurrency=(1, 8, 64), input_tokens=64, output_tokens=32, **given)  # type: ignore[arg-type]
    return [load.turnovers for load in loads_of(sweep, Files()) if isinstance(load, ClosedLoad)]


def test_few_users_make_more_turnovers_where_a_number_of_requests_is_asked_for() -> None:
    assert _turnovers() == [8, 8, 8]
    assert _turnovers(turnovers=5, min_requests=100) == [100, 13, 5]
