"""Every fault of W&B's service at every stage of a publication, with the real client: never believed, never doubled.

The tries are made side by side, since those that fail mostly wait; each test then looks at its own.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from publishers import Told, access, assert_whole, builder_of, publish, state
from wandb_service import Fault, WandbService, serving

from raybench.publish.state import SinkState

LIMITS_S = (20.0, 90.0)
"""Wall limits of a first try: what hangs, or is tried again without end, is killed then. The second one is for a
machine that is so busy that the fault was not met within the first."""
AT_ONCE = 4

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
NAMES = [f"{stage}-{harm}" for stage in STAGES for harm in HARMS]


@dataclass
class Case:
    """A service with a fault, and what came of both tries."""

    service: WandbService
    folder: Path
    fault: Fault
    told: Told = field(default_factory=Told)
    after: SinkState | None = None
    told_again: Told = field(default_factory=Told)


def _case(stack: ExitStack, path: Path, name: str) -> Case:
    stage, _, harm = name.rpartition("-")
    label, after = STAGES[stage]
    return Case(stack.enter_context(serving()), path / "run", Fault(label, after=after, **HARMS[harm]))


def _carry_out(case: Case) -> None:
    case.service.faults = [case.fault]
    for limit_s in LIMITS_S:
        builder_of(limit_s=limit_s).write(case.folder)
        case.told = publish(case.folder, access(case.service))
        if case.fault.num_hits:
            break
    case.after = state(case.folder)
    case.service.closing.set()  # whoever was kept waiting is let go
    case.service.faults = []
    builder_of(limit_s=300).write(case.folder)
    case.told_again = publish(case.folder, access(case.service))


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    root = tmp_path_factory.mktemp("faults")
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked_for = {each["name"] for each in params if "name" in each}
    with ExitStack() as stack:
        made = {name: _case(stack, root / name, name) for name in NAMES if name in asked_for}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(_carry_out, made.values()))
        yield made


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_told_and_the_next_try_is_whole(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    assert case.fault.num_hits > 0, "the fault was never met"
    assert not case.told.ok
    assert case.after is not None
    assert (case.after.state, case.after.last.runs) == ("failed", ())
    assert case.after.error
    assert f"retry with: raybench publish {case.folder} --sink wandb" in case.told.text
    assert case.told_again.ok, case.told_again.text
    assert_whole(case.folder, case.service)
    assert state(case.folder).state == "published"
    assert case.service.unknown == []
