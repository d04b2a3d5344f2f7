"""The section on the fleet: predictions against outcomes, and the idle share of nodes, from made ledgers."""

import pytest
from ledger_builder import config, whole_ledger

from raybench.config.schema import RunConfig
from raybench.ledger.bodies import ESTIMATE, Decision
from raybench.ledger.usage import Usage
from raybench.records import LedgerRecord
from raybench.report.fleet_page import fleet_section, fleet_times
from raybench.report.markdown import render
from raybench.report.summary import make_report


def record(seq: int, t: float, kind: str, body: dict[str, object], **place: object) -> LedgerRecord:
    return LedgerRecord.model_validate({"seq": seq, "t": t, "kind": kind, "body": body} | place)


def test_a_node_is_idle_with_neither_a_unit_nor_an_engine_on_its_way() -> None:
    usage = Usage()
    for number, (t, kind, body, key) in enumerate([
        (0.0, "run", {}, None),
        (10.0, "node", {}, None),
        (10.0, "decision", {"what": "start_engine"}, None),
        (30.0, "engine", {}, None),
        (30.0, "unit_started", {}, "a"),
        (40.0, "unit_started", {}, "b"),
        (50.0, "unit_done", {}, "a"),
        (60.0, "unit_failed", {}, "b"),
        (70.0, "unit_started", {}, "b"),
        (80.0, "unit_done", {}, "b"),
        (110.0, "decision", {"what": "end"}, None),
    ]):  # fmt: skip
        node = None if kind == "run" or body.get("what") == "end" else "n0"
        usage.take(record(number, t, kind, body, node=node, key=key, attempt=1 if key else None))
    node = usage.nodes["n0"]
    assert (node.present_s, node.busy_s, node.starting_s) == (100.0, 40.0, 20.0)
    assert node.idle_fraction == pytest.approx(0.4)
    assert usage.done_t == {"a": 50.0, "b": 80.0}


def test_the_time_of_a_node_ends_with_its_loss_and_with_its_session() -> None:
    usage = Usage()
    usage.take(record(0, 0.0, "run", {}))
    for number, name in enumerate(("n0", "n1")):
        usage.take(record(number + 1, 0.0, "node", {}, node=name))
    usage.take(record(3, 10.0, "decision", {"what": "node_lost"}, node="n0"))
    usage.take(record(4, 20.0, "unit_started", {}, node="n1", key="a", attempt=1))
    usage.take(record(5, 500.0, "run", {}))
    usage.take(record(6, 600.0, "decision", {"what": "end"}))
    assert [node.present_s for node in usage.nodes.values()] == [10.0, 20.0]
    assert usage.session_t == 500.0


def predicted(settings: RunConfig) -> list[Decision]:
    numbers = {"makespan_s": 100.0, "gpu_hours": 2.5, "cost": 5.0}
    return [Decision(what=ESTIMATE, target=t.name, reason="as planned", numbers=numbers) for t in settings.targets]


def test_the_report_holds_the_prediction_against_what_came_and_is_silent_without_one() -> None:
    settings = config()
    builder = whole_ledger(settings)
    report = make_report(builder.view())
    assert report.fleet is None and "## Fleet" not in render(report)
    assert fleet_section(None) == []
    view = builder.view()
    view.decisions.extend(predicted(settings))
    times = fleet_times(view)
    assert times is not None
    assert [(row.target, row.predicted_s, row.predicted_gpu_hours) for row in times.targets] == [
        ("alpha", 100.0, 2.5), ("beta", 100.0, 2.5)
    ]  # fmt: skip
    assert all(row.actual_s is not None and row.actual_s > 0 for row in times.targets)
    assert {row.node for row in times.nodes} == set(view.nodes)
    page = "\n\n".join(fleet_section(times))
    assert "Actual / predicted" in page and "| alpha " in page and "%" in page
