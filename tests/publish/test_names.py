"""The report's names under W&B's: legal, flat, finite, and the same every time."""

import math
import re

import pytest
from ledger_builder import LedgerBuilder, config, one_pass, whole_ledger
from report_cases import CASES

from raybench.ledger.view import fold
from raybench.publish.content import RunContent
from raybench.publish.names import PERF_NAMES
from raybench.publish.targets import Source, target_runs
from raybench.records import PerfMeasurement, PerfUnit
from raybench.report.model import PerfRow, Report, Spread
from raybench.report.summary import make_report

NAME = re.compile(r"^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*$")


def _report(name: str = "golden") -> Report:
    return make_report(CASES[name]().view())


def _source(builder: LedgerBuilder) -> Source:
    view = builder.view()
    return Source(tuple(builder.records), view, make_report(view), True)


def _runs(builder: LedgerBuilder) -> tuple[RunContent, ...]:
    return target_runs(_source(builder), "hashed")


def _rows(run: RunContent) -> list[dict[str, object]]:
    return [dict(row.values) for row in run.history]


def _all_values(run: RunContent) -> dict[str, object]:
    return {k: v for mapping in (run.config, run.summary, *_rows(run)) for k, v in mapping.items()}


@pytest.mark.parametrize("name", list(CASES))
def test_names_are_legal_and_values_are_scalars(name: str) -> None:
    for run in _runs(CASES[name]()):
        assert re.fullmatch(r"[a-z0-9-]{1,64}", run.id)
        assert all(1 <= len(tag) <= 64 for tag in run.tags)
        for key, value in _all_values(run).items():
            assert NAME.fullmatch(key), key
            assert isinstance(value, str | int | float | bool)
            assert not isinstance(value, float) or math.isfinite(value)


def test_every_figure_of_a_row_has_a_name() -> None:
    row = _report().perf[0]
    figures = {name for name in PerfRow.model_fields if isinstance(getattr(row, name), Spread | float)}
    assert figures == {each.field for each in PERF_NAMES}


def test_ids_are_the_same_for_the_same_run_and_others_for_another() -> None:
    assert [run.id for run in _runs(whole_ledger())] == [run.id for run in _runs(whole_ledger())]
    other = whole_ledger()
    other.records[0] = other.records[0].model_copy(update={"body": other.records[0].body | {"run_id": "study-2"}})
    assert _source(other).sweep != _source(whole_ledger()).sweep


def test_history_holds_medians_in_w_and_b_units() -> None:
    run = _runs(whole_ledger())[0]
    assert [row["perf/batch_size"] for row in _rows(run)] == [1, 4, 16]
    row = _rows(run)[1]
    assert row["perf/ttft_ms"] == pytest.approx(201.0)
    assert row["perf/ttft_ms_min"] == pytest.approx(200.0)
    assert row["perf/latency_s_max"] == pytest.approx(1.412 * 1.01)
    assert row["perf/interactivity_tok_s_user"] == pytest.approx(1000 / 12.06)
    assert row["perf/repeats"] == 2


def test_summary_is_flat_and_holds_evals_start_up_and_status() -> None:
    summary = _runs(whole_ledger())[1].summary
    assert summary["perf/bs16/itl_ms"] == pytest.approx(11.055)
    assert summary["perf/peak_output_tok_s"] == summary["perf/bs16/output_tok_s"]
    assert summary["eval/sums/score"] == 0.95
    assert (summary["eval/sums/baseline"], summary["eval/sums/verdict"], summary["eval/sums/n"]) == (0.9, "PASS", 40)
    assert summary["startup/cuda_graph_s"] == 27.5
    assert (summary["raybench/validity"], summary["raybench/units"]) == ("VALID", 8)


def test_findings_reach_the_summary_of_their_target() -> None:
    summaries = [run.summary for run in _runs(CASES["golden_invalid"]())]
    assert [summary["raybench/findings_red"] for summary in summaries] == [2, 1]
    assert summaries[0]["raybench/validity"] == "INVALID"
    assert summaries[1]["eval/sums/missing"] == 20


def test_several_sweeps_do_not_overwrite_each_other() -> None:
    sweeps = [
        {"name": name, "batch_sizes": [1], "input_tokens": length, "output_tokens": 8}
        for name, length in (("short", 100), ("4k-in", 4096))
    ]
    run = _runs(whole_ledger(config(perf=sweeps)))[0]
    assert {"perf/short/bs1/itl_ms", "perf/n4k_in/bs1/itl_ms"} <= run.summary.keys()
    assert [row["perf/sweep"] for row in _rows(run)] == ["short", "4k-in"]


def test_points_without_results_send_no_row() -> None:
    run = _runs(whole_ledger(skip=lambda key: "alpha-static-b4" in key))[0]
    assert [row["perf/batch_size"] for row in _rows(run)] == [1, 16]


def test_no_path_leaves_the_machine() -> None:
    settings = config(
        model={"path": "/data/user/models/secret-run"}, engine={"args": {"chat-template": "/home/me/t.jinja"}}
    )
    run = _runs(whole_ledger(settings))[0]
    assert run.config["model"] == "secret-run"
    assert run.config["arg_chat_template"] == "t.jinja"
    assert not [value for value in _all_values(run).values() if isinstance(value, str) and value.startswith("/")]
    assert "/data" not in run.name


def test_a_hub_id_is_kept() -> None:
    assert _runs(whole_ledger())[0].config["model"] == "org/some-model"


def test_a_longer_ledger_of_the_same_run_only_adds_rows() -> None:
    """A session that was killed midway, and the one that finished it."""
    builder = whole_ledger(skip=lambda key: key in ("alpha-static-b1-r1-l0", "alpha-static-b16-r0-l0"))
    before = _runs(builder)[0]
    builder.session(1)
    for unit in builder.plan.units:
        if unit.key in ("alpha-static-b1-r1-l0", "alpha-static-b16-r0-l0"):
            builder.perf_done(unit, "n0.0")  # type: ignore[arg-type]
    builder.end()
    after = _runs(builder)[0]
    old = [(row.step, row.values["perf/batch_size"]) for row in before.history]
    new = [(row.step, row.values["perf/batch_size"]) for row in after.history]
    assert new[: len(old)] == old
    assert new[len(old)][0] > before.last_step
    assert [row["perf/attempt"] for row in _rows(after) if row["perf/batch_size"] == 1] == [1, 2]
    assert after.last_step > new[-1][0]


def test_a_run_that_goes_on_sends_whole_points_in_order_and_no_tables() -> None:
    builder = whole_ledger()
    done = [r.seq for r in builder.records if r.key == "alpha-static-b16-r1-l0"]
    builder.records = builder.records[: done[0]]
    view = builder.view()
    run = target_runs(Source(tuple(builder.records), view, make_report(view), False), "hashed")[0]
    assert [row["perf/batch_size"] for row in _rows(run)] == [1, 4]
    assert run.tables == ()


def _faster_at_16(unit: PerfUnit, measured: PerfMeasurement) -> PerfMeasurement:
    """The largest batch turns out faster than the one before it, which is a finding about that one."""
    whole = one_pass(unit.load, 0.5, 5.0 if unit.load.batch_size == 16 else 12.0)
    return measured.model_copy(update={"measured": whole})


def test_a_row_that_was_sent_live_never_changes() -> None:
    """W&B takes no step twice: whatever a later batch size or another session's prices say must not be in a row."""
    builder = whole_ledger(perf=_faster_at_16)
    builder.settings = config(targets=[{"name": n, "accelerator": "H200", "price_per_gpu_hour": 9.0, "gpus_per_node": 8}
                                       for n in ("alpha", "beta")])  # fmt: skip
    builder.session(1)
    builder.end()
    whole = _runs(builder)[0]
    assert "itl_not_monotonic" in str(whole.summary["perf/bs4/findings"])
    assert whole.history[1].revisable["perf/findings"] == whole.summary["perf/bs4/findings"]
    rows = {row.step: row.values for row in whole.history}
    sent: list[int] = []
    for number, record in enumerate(builder.records):
        if record.kind in ("unit_done", "decision") and record.seq < len(builder.records) - 1:
            view = fold(known := tuple(builder.records[: number + 1]))
            live = target_runs(Source(known, view, make_report(view), False), "hashed")[0]
            for row in live.history:
                assert row.values == rows[row.step]
                sent.append(row.step)
    assert set(sent) == rows.keys()
    assert min(sent.count(step) for step in rows) > 1, "every row was there before its run was over"
