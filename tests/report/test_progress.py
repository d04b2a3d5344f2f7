"""How far a run is: counted from the ledger's records alone, told in one line, in a page, and in a table."""

import io
from dataclasses import replace

import pytest
from ledger_builder import T0, LedgerBuilder, config, measurement, whole_ledger
from load_ledgers import SEARCH, serving_config, serving_ledger
from rich.console import Console

from raybench.ledger.bodies import STOP_EVAL, Decision
from raybench.records import EvalUnit, Failure, LoadUnit, PerfMeasurement, PerfUnit
from raybench.report.early import EarlyFindings
from raybench.report.progress import NodeStatus, Progress, RunStatus
from raybench.report.progress_page import LiveView, duration, progress_line, status_lines
from raybench.report.summary import make_report


class Script(LedgerBuilder):
    """A builder that also starts things."""

    def decided(self, what: str, node: str | None = None, **fields: object) -> None:
        body = Decision.model_validate({"what": what, "reason": "launch 1"} | fields)
        self.add("decision", body, **({} if node is None else {"node": node}))

    def started(self, unit: PerfUnit | EvalUnit, node: str, attempt: int = 1) -> None:
        self.add("unit_started", Failure(cause="bug", message=""), key=unit.key, attempt=attempt, node=node)

    def perf(self, target: str) -> list[PerfUnit]:
        return [unit for unit in self.plan.units if isinstance(unit, PerfUnit) and unit.target == target]

    def evals(self, target: str) -> list[EvalUnit]:
        return [unit for unit in self.plan.units if isinstance(unit, EvalUnit) and unit.target == target]

    def now(self) -> RunStatus:
        return Progress(self.records).status()


@pytest.fixture
def script() -> Script:
    made = Script(config())
    made.session()
    made.planned()
    return made


def test_a_run_starts_without_nodes(script: Script) -> None:
    status = script.now()
    assert (status.name, status.run_id, status.phase, status.nodes) == ("study", "study-1", "starting", ())
    assert [(w.target, w.name, w.num_units, w.num_samples) for w in status.work] == [
        ("alpha", "static", 6, 0), ("alpha", "sums", 2, 40), ("beta", "static", 6, 0), ("beta", "sums", 2, 40),
    ]  # fmt: skip
    assert (status.samples_per_s, status.remaining_s) == (None, None)
    assert progress_line(status) == "0/16 units, 0/80 samples"


def test_a_node_goes_through_its_phases_and_says_since_when(script: Script) -> None:
    def node() -> tuple[str, str, float, int]:
        found = Progress(script.records).status(script.records[-1].t + 5).nodes[0]
        return found.phase, found.about, found.since_s, found.num_units_done

    first = script.perf("alpha")[0]
    script.node("alpha", 0)
    assert node() == ("idle", "", 5, 0)
    script.decided("start_engine", "n0", target="alpha")
    assert node() == ("starting", "alpha (launch 1)", 5, 0)
    script.engine("alpha", "n0.0")
    assert node() == ("ready", "alpha", 5, 0)
    script.started(first, "n0")
    assert node() == ("perf", "alpha static batch 1, repeat 1", 5, 0)
    script.perf_done(first, "n0.0")
    assert node() == ("ready", "alpha", 5, 1)
    script.started(script.evals("alpha")[1], "n0")
    assert node() == ("eval", "alpha sums block 2", 5, 1)
    script.decided("node_lost", "n0", reason="n0: the actor died")
    script.failed(script.evals("alpha")[1].key, Failure(cause="node_lost", message="gone"))
    assert node() == ("lost", "n0: the actor died", 6, 1)
    status = script.now()
    assert (status.num_lost, status.num_failed) == (1, 1)
    assert progress_line(status).endswith("; 1 failed attempt; lost n0")


def test_a_node_that_does_not_answer_is_shown_as_suspect_until_it_does(script: Script) -> None:
    units = script.perf("alpha")
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    script.started(units[0], "n0")
    script.decided("node_suspect", "n0", reason="no answer for 10 s")
    assert [(n.phase, n.about) for n in script.now().nodes] == [("suspect", "no answer for 10 s")]
    script.perf_done(units[0], "n0.0")
    assert [n.phase for n in script.now().nodes] == ["suspect"]
    script.decided("node_well", "n0", reason="it answers again")
    assert [(n.phase, n.about) for n in script.now().nodes] == [("ready", "alpha")]


def test_an_engine_that_did_not_start_leaves_an_idle_node(script: Script) -> None:
    script.node("alpha", 0)
    script.decided("start_engine", "n0", target="alpha")
    script.decided("engine_start_failed", "n0", target="alpha", reason="no such flag")
    assert [(n.phase, n.about) for n in script.now().nodes] == [("idle", "alpha did not start")]


def test_the_rest_is_estimated_from_what_was_done(script: Script) -> None:
    for number, target in enumerate(("alpha", "beta")):
        script.node(target, number)
        script.engine(target, f"n{number}.0")
        script.perf_done(script.perf(target)[0], f"n{number}.0")
        assert script.now().remaining_s is None, "nothing is known about the evals yet"
        script.eval_done(script.evals(target)[0], f"n{number}.0")
    # Five perf units and one block of 12 s are left on each node, side by side.
    alpha_s, beta_s = (5 * measurement(script.perf(target)[0]).duration_s + 12 for target in ("alpha", "beta"))
    assert alpha_s > beta_s
    assert script.now().remaining_s == pytest.approx(alpha_s)
    # A second node of alpha halves alpha's work; beta's is the longer one then.
    script.node("alpha", 2)
    script.engine("alpha", "n2.0")
    assert script.now().remaining_s == pytest.approx(beta_s)
    # One of them serves the other target as well: from now on everything is shared.
    script.engine("beta", "n2.1")
    assert script.now().remaining_s == pytest.approx((alpha_s + beta_s) / 3)


def test_samples_of_a_running_block_and_dropped_units_count(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    script.eval_done(script.evals("alpha")[0], "n0.0")
    del script.records[-1]
    status = script.now()
    assert (status.work[1].num_samples_done, status.work[1].num_units_done) == (20, 0)
    assert status.samples_per_s == pytest.approx(20 / 19)
    assert "20/80 samples; 1.1 samples/s" in progress_line(status)
    dropped = tuple(unit.key for unit in script.evals("alpha"))
    script.decided(STOP_EVAL, target="alpha", eval="sums", dropped=dropped)
    status = script.now()
    assert status.work[1].num_units_dropped == 2
    assert "(2 units dropped by rules)" in progress_line(status)


def test_a_resumed_run_has_only_the_nodes_of_its_session(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    script.perf_done(script.perf("alpha")[0], "n0.0")
    script.decided("interrupted", reason="exit 143")
    assert script.now().phase == "interrupted"
    script.session(1)
    status = script.now()
    assert (status.phase, status.session, status.session_s, status.nodes) == ("starting", 1, 0, ())
    assert status.work[0].num_units_done == 1


def test_a_page_tells_it_all_and_what_was_found_so_far(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    bad = script.perf("alpha")[1]
    script.perf_done(bad, "n0.0", _one_token_short)
    script.started(script.perf("alpha")[2], "n0")
    status = Progress(script.records).status(T0 + 1000)
    assert status_lines(status, make_report(script.view()).findings) == [
        "study (study-1): running, 17 min",
        "nothing was written for 17 min: a long unit, or a driver that is gone (then --resume)",
        "1/16 units, 0/80 samples",
        "  alpha static: 1/6 units",
        "  alpha sums: 0/2 units, 0/40 samples",
        "  beta static: 0/6 units",
        "  beta sums: 0/2 units, 0/40 samples",
        "nodes:",
        "  n0 H200: perf alpha static batch 16, repeat 1 for 17 min, 1 unit done",
        "findings so far:",
        "  RED: Requests failed or replies had the wrong length: alpha",
    ]


def test_a_whole_run_has_ended_and_its_clock_stands(script: Script) -> None:
    records = whole_ledger().records
    status = Progress(records).status(T0 + 1_000_000)
    assert (status.phase, status.session_s, status.quiet_s) == ("ended", len(records) - 1, 0)
    assert all(work.num_units_done == work.num_units for work in status.work)
    assert status_lines(status)[-1] == "findings so far: none that is red or a warning"


def test_a_terminal_gets_a_row_for_every_node(script: Script) -> None:
    script.node("alpha", 0)
    script.started(script.perf("alpha")[0], "n0")
    script.node("beta", 1)
    text = io.StringIO()
    Console(file=text, width=100).print(LiveView(script.now()))
    first, *rows = [line.strip() for line in text.getvalue().splitlines()]
    assert first == "0/16 units, 0/80 samples"
    assert [row.split()[:3] for row in rows] == [["n0", "H200", "perf"], ["n1", "B200", "idle"]]


def fleet(phases: list[str]) -> RunStatus:
    """A run with a node for each phase, all doing something that takes many words."""
    about = "h200-fp8-tp8 static batch 128, 4096 in, 1024 out, repeat 2"
    nodes = tuple(NodeStatus(f"n{i}", "H200", phase, about, 7, i) for i, phase in enumerate(phases))
    return replace(Progress(whole_ledger().records[:2]).status(), nodes=nodes)


def seen(status: RunStatus, width: int, height: int, num_taken: int = 0) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width, height=height).print(LiveView(status, num_taken))
    return text.getvalue().splitlines()


def test_a_fleet_larger_than_the_terminal_is_counted_by_phase() -> None:
    phases = ["perf"] * 20 + ["eval"] * 18 + ["suspect", "perf"]
    head, *rows, rest = seen(fleet(phases), 80, 24, 2)
    assert len(rows) + 2 == 22 and head == "0/16 units, 0/80 samples"
    assert [row.split()[:3] for row in rows[:2]] == [["n0", "H200", "perf"], ["n1", "H200", "perf"]]
    assert rows[-1].split()[:3] == ["n38", "H200", "suspect"], "one that does not answer is not counted away"
    assert all(row.rstrip().endswith(" done") and len(row.rstrip()) <= 80 for row in rows)
    assert rest == "20 more nodes: 18 eval, 2 perf"
    assert len(seen(fleet(["perf"] * 21), 80, 24, 2)) == 22, "all of them, where they fit"


def test_a_view_fits_however_small_the_terminal_and_however_many_are_lost() -> None:
    phases = ["lost"] * 300 + ["perf"] * 50
    for width, height in ((80, 24), (40, 10), (20, 6)):
        assert len(seen(fleet(phases), width, height, 2)) <= height - 2
    assert seen(fleet(phases), 80, 6, 2)[-1] == "350 nodes: 300 lost, 50 perf"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (130, "2 min"), (5940, "99 min"), (11100, "3 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_sick_unit_is_told_at_once_and_a_good_one_is_not(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    early = EarlyFindings(script.records)
    script.perf_done(script.perf("alpha")[0], "n0.0")
    assert early.take(script.records[-1]) == []
    script.perf_done(script.perf("alpha")[1], "n0.0", _one_token_short)
    assert early.take(script.records[-1]) == [
        "RED Requests failed or replies had the wrong length: alpha static batch 4, repeat 1"
    ]
    script.eval_done(script.evals("alpha")[0], "n0.0")
    assert [line for record in script.records[-21:] for line in early.take(record)] == []


def test_what_earlier_sessions_found_is_not_told_again(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    script.perf_done(script.perf("alpha")[1], "n0.0", _one_token_short)
    early = EarlyFindings(script.records)
    script.session(1)
    assert early.take(script.records[-1]) == []


def _one_token_short(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
    short = result.measured.model_copy(update={"min_output_tokens": unit.load.output_tokens - 1})
    return result.model_copy(update={"measured": short})


def test_probes_of_a_search_count_once_they_are_asked_and_say_their_rate() -> None:
    builder = serving_ledger(serving_config(SEARCH))
    first = next(unit for unit in builder.plan.units if isinstance(unit, LoadUnit))
    status = Progress(builder.records).status()
    searches = {(work.target, work.name): work for work in status.work}
    added = sum(len(decision.added) for decision in builder.view().decisions if decision.target == "alpha")
    assert added > 1
    found = searches["alpha", "limit"]
    assert (found.kind, found.num_units, found.num_units_done) == ("perf", 1 + added, 1 + added)
    builder.add("unit_started", Failure(cause="bug", message=""), key=first.key, attempt=2, node="n0")
    builder.records = [
        record for record in builder.records if record.kind != "decision" or record.body["what"] != "end"
    ]
    node = Progress(builder.records).status().nodes[0]
    assert (node.phase, node.about) == ("perf", "alpha limit 4 req/s, repeat 1")


def test_blocks_side_by_side_share_their_nodes_time(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    script.perf_done(script.perf("alpha")[0], "n0.0")
    one, other = script.evals("alpha")
    alone = Progress(script.records)
    script.started(one, "n0")
    script.started(other, "n0")
    assert script.now().nodes[0].about == "alpha sums block 2"
    script.eval_done(one, "n0.0")
    assert script.now().nodes[0].about == "alpha sums block 2"
    script.eval_done(other, "n0.0")
    assert (script.now().nodes[0].phase, script.now().nodes[0].about) == ("ready", "alpha")
    # 12 s each, but for most of it at the same time.
    assert alone._work["alpha", "sums"].busy_s == 0
    assert 12 < Progress(script.records)._work["alpha", "sums"].busy_s < 20


def test_a_point_that_waits_behind_another_is_not_what_its_node_does(script: Script) -> None:
    script.node("alpha", 0)
    script.engine("alpha", "n0.0")
    one, other = script.perf("alpha")[:2]
    script.started(one, "n0")
    script.started(other, "n0")
    assert script.now().nodes[0].about == "alpha static batch 1, repeat 1"
    script.perf_done(one, "n0.0")
    assert script.now().nodes[0].about == "alpha static batch 4, repeat 1"
