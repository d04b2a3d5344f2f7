"""Every fault of W&B's service at every stage of a publication, with the real client: never believed, never doubled.

A run meets the faults of one kind one after the other, on top of whatever the tries before have left in the service;
between two of them it was resumed and brought something new, so that nothing that is refused was there already. At last
the service is sound. The kinds are tried side by side, since tries that fail mostly wait; each test looks at its own.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from publishers import Told, access, assert_whole, grown, publish, state
from wandb_service import Fault, WandbService, serving

from raybench.publish.state import SinkState

LIMITS_S = (20.0, 90.0)
"""Wall limits of a first try: what hangs, or is tried again without end, is killed then. The second one is for a
machine that is so busy that the fault was not met within the first."""
STAGES = {
    "log-in": ("graphql:UpsertBucket", 0),
    "stream": ("file_stream", 0),
    "artifact": ("graphql:CreateArtifact$", 0),
    "finish": ("file_stream", 1),  # a small run's second and last chunk, which says that it is complete
    "read-back": ("graphql:Run$", 0),
}
HARMS = {
    "500": {"status": 500}, "hang": {"hang": True}, "refusal": {"drop": True}, "401": {"status": 401},
    "404": {"status": 404},
}  # fmt: skip


@dataclass
class Try:
    """A try that met a fault, and what came of it."""

    fault: Fault
    told: Told
    after: SinkState


@dataclass
class Case:
    """A run, its service, and what it met there."""

    service: WandbService
    folder: Path
    tries: dict[str, Try] = field(default_factory=dict)
    told_at_last: Told = field(default_factory=Told)


def _carry_out(case: Case, harm: str, stages: list[str]) -> None:
    for number, stage in enumerate(stages):
        label, after = STAGES[stage]
        fault = Fault(label, after=after, **HARMS[harm])
        case.service.faults = [fault]
        for limit_s in LIMITS_S:
            grown(number, limit_s=limit_s).write(case.folder)
            told = publish(case.folder, access(case.service))
            if fault.num_hits:
                break
        case.tries[stage] = Try(fault, told, state(case.folder))
        case.service.faults = []
        case.service.closing.set()  # whoever was kept waiting is let go
        case.service.closing = threading.Event()
    grown(len(stages), limit_s=300).write(case.folder)
    case.told_at_last = publish(case.folder, access(case.service))


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    root = tmp_path_factory.mktemp("faults")
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked_for = {(each["harm"], each["stage"]) for each in params if "harm" in each and "stage" in each}
    with ExitStack() as stack, ThreadPoolExecutor(len(HARMS)) as pool:
        made = {harm: Case(stack.enter_context(serving()), root / harm / "run") for harm in HARMS}
        for each in [
            pool.submit(_carry_out, case, harm, stages)
            for harm, case in made.items()
            if (stages := [stage for stage in STAGES if (harm, stage) in asked_for])
        ]:
            each.result()
        yield made


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("harm", HARMS)
def test_a_fault_is_told_and_at_last_all_is_whole(cases: dict[str, Case], harm: str, stage: str) -> None:
    case, met = cases[harm], cases[harm].tries[stage]
    assert met.fault.num_hits > 0, "the fault was never met"
    assert not met.told.ok
    assert (met.after.state, met.after.last.runs) == ("failed", ())
    assert met.after.error
    assert f"retry with: raybench publish {case.folder} --sink wandb" in met.told.text
    assert case.told_at_last.ok, case.told_at_last.text
    assert_whole(case.folder, case.service)
    assert state(case.folder).state == "published"
    assert case.service.unknown == []
