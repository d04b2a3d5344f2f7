"""A node outlives its driver for as long as its lease says, and is handed on with the engine that is up."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated_engines import simulated_launch, timing

from raybench.config.schema import FaultConfig
from raybench.node import actor as actor_module
from raybench.node.lease import Lease
from raybench.node.session import NodeSession, NodeSpec

from .test_session import last, later, perf_unit, silent

WARM = NodeSpec("run-of-a-test", "n0", "CPU", 0, declared_host="simulated:n0", lease_s=60.0)


def test_a_lease_is_over_once_nobody_has_renewed_it_for_so_long() -> None:
    over, now_s = threading.Event(), [0.0]
    lease = Lease(60.0, over.set, now=lambda: now_s[0])
    now_s[0] = 59.0
    lease.renew()
    now_s[0] = 118.0
    assert not over.wait(1.5)
    now_s[0] = 119.5
    assert over.wait(10)


def test_a_node_whose_lease_is_over_closes_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, codes = threading.Event(), list[int]()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(actor_module.os, "_exit", end)
    node = actor_module.NodeActor(replace(WARM, lease_s=0.2))
    folder = node._session._folder
    assert folder.exists()
    assert ended.wait(60) and codes == [0]
    assert not folder.exists()


def adopted(tmp_path: Path, spec: NodeSpec = WARM, **changes: object) -> tuple[str | None, bool]:
    """What an engine that starts for a second session says it was taken over from, and whether its process is that of
    the first. `changes`: of the launch."""
    session = NodeSession(spec)
    try:
        launch = simulated_launch(tmp_path, timing())
        session.start_engine(launch, silent)
        _, first = session.engine_address()
        session.adopt(replace(spec, node="n1"))
        facts = session.start_engine(replace(launch, start="n1.0", **changes), silent)  # type: ignore[arg-type]
        assert (facts.start, session.facts().node) == ("n1.0", "n1")
        assert last(session, perf_unit()).failure is None
        return facts.adopted_from, session.engine_address()[1] == first
    finally:
        session.close()


def test_the_engine_that_is_wanted_is_taken_over_and_works(tmp_path: Path) -> None:
    assert adopted(tmp_path) == ("n0.0", True)


@pytest.mark.parametrize("changes", [{"launch": 1}, {"num_gpus": 8}, {"target": "b200"}])
def test_another_engine_is_started_anew(tmp_path: Path, changes: dict[str, object]) -> None:
    assert adopted(tmp_path, **changes) == (None, False)


def test_without_a_lease_nothing_is_taken_over(tmp_path: Path) -> None:
    assert adopted(tmp_path, replace(WARM, lease_s=None)) == (None, False)


def test_an_engine_that_does_not_answer_is_started_anew(tmp_path: Path) -> None:
    session = NodeSession(WARM)
    try:
        launch = simulated_launch(tmp_path, timing(FaultConfig(die_after_requests=1)))
        session.start_engine(launch, silent)
        last(session, perf_unit())
        session.adopt(replace(WARM, node="n1"))
        assert session.start_engine(replace(launch, start="n1.0"), silent).adopted_from is None
    finally:
        session.close()


def test_what_runs_for_the_session_before_is_ended_first(tmp_path: Path) -> None:
    session = NodeSession(WARM)
    try:
        launch = simulated_launch(tmp_path, timing(FaultConfig(stall_s=3600)))
        session.start_engine(launch, silent)
        later(0.5, lambda: session.adopt(replace(WARM, node="n1")))
        result = last(session, perf_unit(timeout_s=3600))
        assert result.failure is not None and result.failure.cause == "stopped"
    finally:
        session.close()


class Renewals:
    """A lease that counts."""

    num = 0

    def renew(self) -> None:
        self.num += 1


class Sends:
    """A session whose every call ends at once, or with three items."""

    def start_engine(self, launch: object, progress: object) -> str:
        return "facts"

    def run(self, unit: object, engines_on_host: int, progress: object) -> Iterator[int]:
        yield from range(3)

    def stop_engine(self) -> None:
        pass


def test_what_the_driver_asks_for_renews_a_lease_and_what_the_node_sends_does_not() -> None:
    node: Any = actor_module.NodeActor.__new__(actor_module.NodeActor)
    node._lease, node._session = Renewals(), Sends()
    node.ping()
    assert list(node.start_engine(None)) == ["facts"]
    assert list(node.run_unit(None, 1)) == [0, 1, 2]
    node.stop_engine()
    assert node._lease.num == 4


def test_an_actor_says_in_rays_dashboard_which_node_it_is() -> None:
    node = actor_module.NodeActor(replace(WARM, lease_s=None))
    try:
        assert repr(node) == "NodeActor(run-of-a-test n0 CPU)"
    finally:
        node.close()
