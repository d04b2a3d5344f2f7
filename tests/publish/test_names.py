"""The report's names under W&B's: legal, flat, finite, and the same every time."""

import math
import re

import pytest
from ledger_builder import config, whole_ledger
from report_cases import CASES

from raybench.publish.names import PERF_NAMES, WandbRun, runs, sweep_id
from raybench.report.model import PerfRow, Report, Spread
from raybench.report.summary import make_report

NAME = re.compile(r"^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*$")


def _report(name: str = "golden") -> Report:
    return make_report(CASES[name]().view())


def _all_values(run: WandbRun) -> dict[str, object]:
    return {k: v for mapping in (run.config, run.summary, *run.history) for k, v in mapping.items()}


@pytest.mark.parametrize("name", list(CASES))
def test_names_are_legal_and_values_are_scalars(name: str) -> None:
    for run in runs(_report(name)):
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
    assert [run.id for run in runs(_report())] == [run.id for run in runs(_report())]
    other = whole_ledger()
    other.records[0] = other.records[0].model_copy(update={"body": other.records[0].body | {"run_id": "study-2"}})
    assert sweep_id(make_report(other.view())) != sweep_id(_report())


def test_history_holds_medians_in_w_and_b_units() -> None:
    run = runs(_report())[0]
    assert [row["perf/batch_size"] for row in run.history] == [1, 4, 16]
    row = run.history[1]
    assert row["perf/ttft_ms"] == pytest.approx(201.0)
    assert row["perf/ttft_ms_min"] == pytest.approx(200.0)
    assert row["perf/latency_s_max"] == pytest.approx(1.412 * 1.01)
    assert row["perf/interactivity_tok_s_user"] == pytest.approx(1000 / 12.06)
    assert row["perf/repeats"] == 2


def test_summary_is_flat_and_holds_evals_start_up_and_status() -> None:
    summary = runs(_report())[1].summary
    assert summary["perf/bs16/itl_ms"] == pytest.approx(11.055)
    assert summary["perf/peak_output_tok_s"] == summary["perf/bs16/output_tok_s"]
    assert summary["eval/sums/score"] == 0.95
    assert (summary["eval/sums/baseline"], summary["eval/sums/gate"], summary["eval/sums/n"]) == (0.9, "PASS", 40)
    assert summary["startup/cuda_graph_s"] == 27.5
    assert (summary["raybench/status"], summary["raybench/units"]) == ("VALID", 8)


def test_findings_reach_the_summary_of_their_target() -> None:
    summaries = [run.summary for run in runs(_report("golden_invalid"))]
    assert [summary["raybench/findings_red"] for summary in summaries] == [2, 1]
    assert summaries[0]["raybench/status"] == "INVALID"
    assert summaries[1]["eval/sums/missing"] == 20


def test_several_sweeps_do_not_overwrite_each_other() -> None:
    sweeps = [
        {"name": name, "batch_sizes": [1], "input_tokens": length, "output_tokens": 8}
        for name, length in (("short", 100), ("4k-in", 4096))
    ]
    run = runs(make_report(whole_ledger(config(perf=sweeps)).view()))[0]
    assert {"perf/short/bs1/itl_ms", "perf/n4k_in/bs1/itl_ms"} <= run.summary.keys()
    assert [row["perf/sweep"] for row in run.history] == ["4k-in", "short"]


def test_points_without_results_send_no_row() -> None:
    report = make_report(whole_ledger(skip=lambda key: "alpha-static-b4" in key).view())
    assert [row["perf/batch_size"] for row in runs(report)[0].history] == [1, 16]


def test_no_path_leaves_the_machine() -> None:
    settings = config(
        model={"path": "/data/user/models/secret-run"}, engine={"args": {"chat-template": "/home/me/t.jinja"}}
    )
    run = runs(make_report(whole_ledger(settings).view()))[0]
    assert run.config["model"] == "secret-run"
    assert run.config["arg_chat_template"] == "t.jinja"
    assert not [value for value in _all_values(run).values() if isinstance(value, str) and value.startswith("/")]
    assert "/data" not in run.name


def test_a_hub_id_is_kept() -> None:
    assert runs(_report())[0].config["model"] == "org/some-model"
