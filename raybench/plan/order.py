"""The order in which units are begun: what is begun last decides when all is over. Pure."""

from collections.abc import Iterable, Mapping

from raybench.plan.backlog import group_of
from raybench.records import AnyUnit, EvalUnit, Timed


def longest_first(units: Iterable[AnyUnit], expected: Mapping[str, float]) -> tuple[AnyUnit, ...]:
    """The units of every target with the longest first, each target's still together and its perf units in front.

    `expected`: of a unit by its key, anything that grows with the time that it takes: 0 where nothing is known, and
    equal ones stay in their order. Points of one (sweep, repeat, launch) stay together in their drawn order. Blocks
    that ask questions for the first time come before those that ask again, and each eval's in the order of the exam:
    stop rules judge it by these answers, and the longest are cut more often than the rest. An adaptive eval's later
    stages, which may never be needed, come last.
    """
    every = tuple(units)
    groups: dict[tuple[str, str, int, int], float] = {}
    targets: dict[str, int] = {}
    evals: dict[tuple[str, str], float] = {}
    for unit in every:
        if isinstance(unit, EvalUnit):
            place = (unit.target, unit.eval)
            evals[place] = max(evals.get(place, 0.0), expected.get(unit.key, 0.0))
        targets.setdefault(unit.target, len(targets))
        if isinstance(unit, Timed):
            groups[group_of(unit)] = groups.get(group_of(unit), 0.0) + expected.get(unit.key, 0.0)

    def rank(unit: AnyUnit) -> tuple[int, int, int, int, float]:
        target = targets[unit.target]
        if isinstance(unit, Timed):
            return target, 0, unit.launch, 0, -groups[group_of(unit)]
        if isinstance(unit, EvalUnit):
            again = any(sample.repeat > 0 for sample in unit.samples)
            length = expected.get(unit.key, 0.0) if again else evals[unit.target, unit.eval]
            return target, 2, unit.stage, int(again), -length
        return target, 1, 0, 0, 0.0

    return tuple(sorted(every, key=rank))
