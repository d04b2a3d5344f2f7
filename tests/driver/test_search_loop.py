"""A search through the driver's own loop, without Ray: probes run on the engine that is up, and stand in the ledger."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from calibrations import calibrated_point, calibration
from load_ledgers import SEARCH, load_measurement, serving_config
from rich.console import Console

from raybench.config.schema import RunConfig
from raybench.driver import run as driver_run
from raybench.driver.chronicle import Chronicle
from raybench.driver.fleet import Fleet
from raybench.driver.run import Order, _fleet_order, _Loop
from raybench.driver.screen import Screen
from raybench.ledger.bodies import SEARCH_END, SEARCH_PROBE, PlanBody, RunBody
from raybench.ledger.journal import Journal, read
from raybench.ledger.view import RunView, fold
from raybench.node.session import UnitResult
from raybench.plan import heartbeat, watchdog
from raybench.plan.demands import Slot
from raybench.plan.dispatch import Dispatcher
from raybench.plan.events import UnitsDropped
from raybench.plan.expand import expand
from raybench.plan.keys import plan_digest
from raybench.plan.searches import Searches
from raybench.plan.watch import Watch
from raybench.records import LoadUnit

from .fake_cloud import FakeActor, FakeCloud


class Serving(FakeActor):
    """Runs loads by arithmetic."""

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        assert isinstance(unit, LoadUnit)
        yield UnitResult(load_measurement(unit), b"rows of " + unit.key.encode(), None)


class Calibrating(Serving):
    """Measures its client's own error before its first load, where its spec knows nothing of its machine."""

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        host = f"boot-{self.spec.node}"
        if self.calls.count("run_unit") == 1 and not self.spec.calibrations:
            yield calibration(calibrated_point(64, 1), host=host)
        async for item in super()._run_unit(unit, engines_on_host):
            measured = item.measurement.model_copy(update={"streams": 20})
            yield UnitResult(measured, item.rows, None)


def _session(
    config: RunConfig,
    folder: Path,
    view: RunView | None = None,
    actor: type[FakeActor] = Serving,
    keep_warm_s: float | None = None,
) -> tuple[FakeCloud, str]:
    """One session of the driver on a run folder; what the screen said."""
    plan = expand(config, {})
    journal = Journal.create(folder) if view is None else Journal.resume(folder)[0]
    if view is None:
        body = RunBody(
            run_id="r", session=0, config=config, config_digest="c", raybench_version="0", ray_version="0",
            python_version="3", cluster="none", command=("raybench", "run", "x.yaml"),
        )  # fmt: skip
        journal.append("run", body)
        journal.append("plan", PlanBody(digest=plan_digest(plan), plan=plan))
    added = tuple(unit for decision in view.decisions for unit in decision.added) if view else ()
    slots = {0: ("alpha",), 1: ("beta",)}
    dispatcher = Dispatcher(
        (*plan.units, *added), slots, done=view.done if view else (), attempts=view.attempts if view else {}
    )
    dispatcher.handle(UnitsDropped(frozenset()))
    cloud = FakeCloud(actor)
    out = io.StringIO()

    async def body_of() -> None:
        machines = tuple(Slot(None, "CPU", 0, 0.0, names) for names in slots.values())
        order = Order(config, plan, folder, "r", False, "local", False, (), keep_warm_s=keep_warm_s)
        fleet = Fleet(_fleet_order(order, view), machines, 0, cloud.cloud())
        with Screen(Console(file=out, force_terminal=False, width=200), len(plan.units), 0) as screen:
            rules = (Watch(config, plan, {}, view), Searches(plan, view))
            chronicle = Chronicle(journal, screen, tuple(read(folder)), None)
            await _Loop(dispatcher, rules, fleet, chronicle).run(2, hold=False)

    try:
        asyncio.run(asyncio.wait_for(body_of(), 120))
    finally:
        journal.close()
    return cloud, out.getvalue()


def test_a_search_runs_to_its_end_on_one_start_of_each_engine(tmp_path: Path) -> None:
    cloud, said = _session(serving_config(SEARCH), tmp_path / "run")
    view = fold(read(tmp_path / "run"))
    assert view.open_searches == ()
    assert view.missing_units() == ()
    ends = {d.target: d.numbers["found"] for d in view.decisions if d.what == SEARCH_END}
    assert ends["alpha"] < ends["beta"]
    for actor in cloud.actors:
        assert actor.calls.count("start_engine") == 1
        assert actor.calls.count("run_unit") >= 5
    assert sum(d.what == SEARCH_PROBE for d in view.decisions) == len(view.done) - 2
    # Rows stand before the record that names their hash.
    for key, done in view.done.items():
        assert (tmp_path / "run" / "requests" / f"{key}.parquet").read_bytes() == b"rows of " + key.encode()
        assert getattr(done.measurement, "rows_sha256", None) is not None
    assert "alpha limit: 4 held" in said
    num = len(view.done)
    assert f"{num}/{num} units done" in said


def test_the_node_of_every_result_has_been_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Ear(heartbeat.Heartbeats):
        def heard(self, node: str, now_s: float) -> None:
            heard.append(node)
            super().heard(node, now_s)

    monkeypatch.setattr(driver_run, "Heartbeats", Ear)
    _session(serving_config(SEARCH), tmp_path / "run")
    assert heard == [record.node for record in read(tmp_path / "run") if record.kind == "unit_done"]


def test_nodes_with_a_lease_are_asked_whatever_they_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sends its results within two looks: without a question the lease of a busy node would run out."""
    asked: list[bool] = []

    class Busy(heartbeat.Heartbeats):
        def asked(self, node: str, now_s: float) -> bool:
            self.heard(node, now_s)
            asked.append(super().asked(node, now_s))
            return asked[-1]

    class Slow(Serving):
        async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
            await asyncio.sleep(0.2)
            async for item in super()._run_unit(unit, engines_on_host):
                yield item

    monkeypatch.setattr(driver_run, "Heartbeats", Busy)
    monkeypatch.setattr(driver_run, "PING_EVERY_S", 0.05)
    for keep_warm_s in (None, 60.0):
        asked.clear()
        cloud, _ = _session(serving_config(SEARCH), tmp_path / str(keep_warm_s), actor=Slow, keep_warm_s=keep_warm_s)
        assert len(asked) > 10
        assert any(asked) == (keep_warm_s is not None) == any("ping" in actor.calls for actor in cloud.actors)


def test_a_killed_driver_goes_on_with_the_next_probe(tmp_path: Path) -> None:
    config = serving_config(SEARCH)
    _session(config, tmp_path / "whole")
    whole = fold(read(tmp_path / "whole"))
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    done = [number for number, line in enumerate(lines) if b'"kind":"unit_done"' in line]
    # Killed between a probe's record and the decision that follows from it.
    folder = tmp_path / "cut"
    (folder / "requests").mkdir(parents=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[: done[3] + 1]))
    view = fold(read(folder))
    assert Searches(expand(config, {}), view).is_due
    _session(config, folder, view)
    again = fold(read(folder))
    assert again.open_searches == ()
    assert set(again.done) == set(whole.done)
    assert all(again.attempts[key] <= 2 for key in again.done)
    found = [{d.target: d.numbers for d in one.decisions if d.what == SEARCH_END} for one in (whole, again)]
    assert found[0] == found[1]


def test_a_calibration_is_a_record_before_the_load_that_it_is_for(tmp_path: Path) -> None:
    config = serving_config(SEARCH)
    cloud, _ = _session(config, tmp_path / "run", actor=Calibrating)
    records = read(tmp_path / "run")
    kinds = [record.kind for record in records]
    assert kinds.count("calibration") == 2
    assert kinds.index("calibration") < kinds.index("unit_done")
    view = fold(records)
    assert {one.host for one in view.calibrations} == {f"boot-{actor.spec.node}" for actor in cloud.actors}
    # The next session's nodes are told.
    again, _ = _session(config, tmp_path / "again", None, Calibrating)
    assert all(actor.spec.calibrations == () for actor in again.actors)
    resumed = _fleet_order(Order(config, expand(config, {}), tmp_path, "r", True, "local", False, ()), view)
    assert resumed.calibrations == tuple(view.calibrations)


class HardOfHearing(Serving):
    """Takes its time for loads, and hears a first question late; one of two does not hear the second."""

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        await asyncio.sleep(0.4)
        async for item in super()._run_unit(unit, engines_on_host):
            yield item

    async def _ping(self) -> AsyncIterator[Any]:
        times = self.calls.count("ping")
        if times == 1:
            await asyncio.sleep(1.2)
        elif self.spec.node == "n0":
            await asyncio.sleep(3600)
        yield None


def test_the_driver_asks_for_signs_of_life_and_acts_on_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_run, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(heartbeat, "SUSPECT_AFTER_S", 0.5)
    monkeypatch.setattr(heartbeat, "LOST_AFTER_S", 2.0)
    monkeypatch.setattr(heartbeat, "LATE_FACTOR", 50.0)  # the machine of this test may be a busy one
    _, said = _session(serving_config(SEARCH), tmp_path / "run", actor=HardOfHearing)
    view = fold(read(tmp_path / "run"))
    assert view.missing_units() == (), "the search went on elsewhere"
    assert "n0 gets no new work: no answer for" in said and "n1 answers again" in said
    assert "n0 lost: no answer for" in said and "n2 joined" in said
    assert {"node_suspect", "node_well", "node_lost"} <= {decision.what for decision in view.decisions}


class Waiting(Serving):
    """Waits for its machine before its first load, and says so if it is patient."""

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        if self.calls.count("run_unit") == 1:
            for _ in range(20):
                await asyncio.sleep(0.1)
                yield "waiting: another raybench measures on this host"
        async for item in super()._run_unit(unit, engines_on_host):
            yield item


def test_a_load_that_says_that_it_waits_is_not_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_run, "LOOK_S", 0.05)
    config = serving_config(SEARCH)
    [limit_s] = {unit.timeout_s for unit in expand(config, {}).units}
    monkeypatch.setattr(watchdog, "GRACE_S", 1.0 - limit_s)
    cloud, said = _session(config, tmp_path / "run", actor=Waiting)
    assert said.count("waiting: another raybench") == 40
    assert "no progress" not in said
    assert all("end_unit" not in actor.calls for actor in cloud.actors)
