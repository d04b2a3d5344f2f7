"""Every fault of W&B's service at every stage of a publication, with the real client: never believed, never doubled.

All first tries are made side by side, since they mostly wait. Then each test repairs its service and publishes again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from publishers import Told, access, assert_whole, builder_of, publish, run_folder, state
from wandb_service import Fault, WandbService, serving

LIMIT_S = 25.0
"""Wall limit of a first try: what hangs and what is tried again without end is killed then."""
AT_ONCE = 4

STAGES = {
    "log-in": "graphql:UpsertBucket",
    "stream": "file_stream",
    "artifact": "graphql:CreateArtifact$",
    "upload": "PUT /uploads/artifact",
    "finish": "graphql:CreateRunFiles|PUT /uploads/run",
    "read-back": "graphql:Run$",
}
HARMS = {
    "500": {"status": 500}, "hang": {"hang": True}, "refusal": {"drop": True}, "401": {"status": 401},
    "404": {"status": 404},
}  # fmt: skip
HARMLESS = {"finish-401", "finish-404"}
"""W&B's own copies of summary and configuration are lost; what the publication says is on the service all the same."""


@dataclass
class Case:
    """A service with a fault, and what came of the first try."""

    service: WandbService
    folder: Path
    told: Told
    num_hits: int


def _case(stack: ExitStack, path: Path, fault: Fault) -> Case:
    path.mkdir()
    service = stack.enter_context(serving())
    service.faults = [fault]
    return Case(service, run_folder(path, limit_s=LIMIT_S), Told(), 0)


def _first_try(case: Case) -> None:
    left = case.service.faults[0].times
    case.told = publish(case.folder, access(case.service))
    case.num_hits = left - case.service.faults[0].times
    case.service.closing.set()  # whoever was kept waiting is let go
    case.service.faults = []


NAMES = [f"{stage}-{harm}" for stage in STAGES for harm in HARMS]


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    root = tmp_path_factory.mktemp("faults")
    asked_for = [item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")]
    with ExitStack() as stack:
        made = {
            name: _case(stack, root / name, Fault(STAGES[name.rpartition("-")[0]], **HARMS[name.rpartition("-")[2]]))
            for name in NAMES
            if name in asked_for
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(_first_try, made.values()))
        yield made


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_told_and_the_next_try_is_whole(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    assert case.num_hits > 0, "the fault was never met"
    if name in HARMLESS:
        assert case.told.ok, case.told.text
        assert_whole(case.folder, case.service)
    else:
        assert not case.told.ok
        assert state(case.folder).state == "failed"
        assert state(case.folder).error
        assert f"retry with: raybench publish {case.folder} --sink wandb" in case.told.text
    builder_of(limit_s=240).write(case.folder)
    told = publish(case.folder, access(case.service))
    assert told.ok, told.text
    assert_whole(case.folder, case.service)
    assert (state(case.folder).state, state(case.folder).attempts) == ("published", 2)
    assert case.service.unknown == []
