"""Serving loads in the report: rows, the front, ratios, searches, and what the pages say of them."""

import io
from dataclasses import replace

import pytest
from calibrations import calibrated_point, calibration
from ledger_builder import config
from load_ledgers import CLOSED, OPEN, SEARCH, serving_config, serving_ledger
from load_runs import failing
from pydantic import JsonValue
from rich.console import Console

from raybench.records import LoadUnit
from raybench.records.loads import ClosedLoad, Slo
from raybench.report.markdown import render
from raybench.report.model import Report
from raybench.report.serving_page import error_lines, point_table, search_sentence, slo_words, tail_table
from raybench.report.serving_terminal import print_serving
from raybench.report.summary import make_report
from raybench.stats.latency import LoadRun


def report_of(*sweeps: object, **changes: object) -> Report:
    return make_report(serving_ledger(serving_config(*sweeps), **changes).view())  # type: ignore[arg-type]


def test_rows_hold_the_figures_of_their_runs_apart() -> None:
    report = report_of({**CLOSED, "repeats": 2, "concurrency": [4]})  # type: ignore[dict-item]
    assert report.verdict == "VALID"
    assert [(row.target, row.point, len(row.runs), row.num_planned) for row in report.serving] == [
        ("alpha", "concurrency 4", 2, 2), ("beta", "concurrency 4", 2, 2),
    ]  # fmt: skip
    row = report.serving[0]
    assert row.output_tok_per_s is not None
    assert row.output_tok_per_s.num == 2
    assert row.output_tok_per_s_per_gpu == pytest.approx(row.output_tok_per_s.median / 8)
    # 8 GPUs at 2 an hour for the time that a million tokens take.
    assert row.output_price_per_million_tokens == pytest.approx(16 / 3600 * 1e6 / row.output_tok_per_s.median)
    assert row.tok_per_s_per_user is not None
    assert row.tok_per_s_per_user.median == pytest.approx(1 / 0.012)
    assert row.good_fraction is not None
    assert row.good_fraction.median == 1
    assert row.runs[0].figures != row.runs[1].figures
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_front_holds_points_that_nothing_beats() -> None:
    report = report_of({**CLOSED, "concurrency": [2, 8]})  # type: ignore[dict-item]
    front = {(row.target, row.value): row.on_front for row in report.serving}
    # beta is quicker at every number of users, and more users make more tokens at the same pace.
    assert front == {("alpha", 2): False, ("alpha", 8): False, ("beta", 2): False, ("beta", 8): True}
    assert "Throughput against interactivity" in render(report)


def test_engine_settings_stand_on_one_front_with_what_tells_them_apart() -> None:
    targets = [
        {"name": "alpha", "accelerator": "H200", "gpus_per_node": 8, "engine": {"args": {"tp-size": 8, "ep-size": 8}}},
        {"name": "beta", "accelerator": "H200", "gpus_per_node": 4, "engine": {"args": {"tp-size": 2, "dp-size": 2}}},
    ]  # fmt: skip
    # alpha spends twice the GPUs on what it does, and is slower for each user.
    settings = config(targets=targets, perf=[{**CLOSED, "concurrency": [2, 8]}], evals=[])  # type: ignore[arg-type, dict-item]
    report = make_report(serving_ledger(settings).view())
    assert {(row.target, row.value) for row in report.serving if row.on_front} == {("beta", 8)}
    page = render(report)
    assert "The front, from one user's speed to throughput: **beta** with 8 users." in page
    lines = [line for line in page.splitlines() if line.startswith(("| alpha", "| beta")) and " users " in line]
    assert len(lines) == 4
    assert "8 GPUs, ep-size 8, tp-size 8" in next(line for line in lines if "alpha" in line)
    assert "4 GPUs, dp-size 2, tp-size 2" in next(line for line in lines if "beta" in line)
    marked = [line.split("|")[4].strip() for line in lines if line.split("|")[7].strip() == "*"]
    assert marked == ["8"]


def test_different_requests_are_on_different_fronts() -> None:
    short = {**CLOSED, "name": "short", "concurrency": [2, 8], "output_tokens": 30}  # type: ignore[dict-item]
    report = report_of({**CLOSED, "concurrency": [2, 8]}, short)  # type: ignore[dict-item]
    assert {(row.sweep, row.target, row.value) for row in report.serving if row.on_front} == {
        ("users", "beta", 8), ("short", "beta", 8),
    }  # fmt: skip
    assert render(report).count("The front, from one user's speed") == 2


@pytest.mark.parametrize(
    "other",
    [
        {"prefix": {"tokens": 8192}},
        {"prefix": {"tokens": 8192, "groups": 4}},
        {"jitter_fraction": 0.1},
        {"input_tokens": {"distribution": "lognormal", "median": 500, "sigma": 0.8}},
        {"route": "chat"},
    ],
    ids=str,
)
def test_no_sweep_is_beaten_by_one_of_other_requests(other: dict[str, JsonValue]) -> None:
    sweep = {**CLOSED, "concurrency": [2, 8]}  # type: ignore[dict-item]
    report = report_of(sweep, {**sweep, "name": "other", **other})
    assert {(row.sweep, row.target, row.value) for row in report.serving if row.on_front} == {
        ("users", "beta", 8), ("other", "beta", 8),
    }  # fmt: skip
    assert len({row.load for row in report.serving}) == 2
    assert render(report).count("The front, from one user's speed") == 2


def test_how_many_requests_a_user_sends_does_not_part_a_front() -> None:
    report = report_of({**CLOSED, "concurrency": [2, 8], "turnovers": 22, "min_requests": 300})  # type: ignore[dict-item]
    assert len({row.requests for row in report.serving}) == 1
    assert sum(row.on_front for row in report.serving) == 1


def test_a_red_point_is_on_no_front() -> None:
    def broken(unit: LoadUnit, run: LoadRun) -> LoadRun:
        users = unit.load.concurrency if isinstance(unit.load, ClosedLoad) else 0
        return failing(run, list(range(30))) if (unit.target, users) == ("beta", 8) else run

    report = report_of({**CLOSED, "concurrency": [2, 8]}, run=broken)  # type: ignore[dict-item]
    assert {(row.target, row.value) for row in report.serving if row.on_front} == {("alpha", 8), ("beta", 2)}
    assert "**beta** with 2, then **alpha** with 8 users" in render(report)


def test_failed_requests_are_counted_and_no_tail_is_without_them() -> None:
    def fewer(unit: LoadUnit, run: LoadRun) -> LoadRun:
        return failing(run, [60, 61, 62, 63]) if (unit.target, unit.repeat) == ("beta", 0) else run

    sweep = {**CLOSED, "concurrency": [8], "repeats": 2}  # type: ignore[dict-item]
    report = report_of(sweep, run=fewer)
    alpha, beta = report.serving
    assert alpha.ttft_p99_s is not None
    # The other run's tail is fine, and must not stand for both.
    assert (beta.ttft_p99_s, beta.e2e_p99_s) == (None, None)
    assert beta.ttft_p50_s is not None
    alphas, betas = point_table([alpha]), point_table([beta])
    assert "Failed" not in alphas.headers
    cells = dict(zip(betas.headers, betas.rows[0], strict=True))
    assert (cells["Failed"], cells["TTFT p99 (ms)"], cells["TTFT p50 (ms)"]) == ("4", "failed", "40.0")
    tails = {(cells[1], cells[2]): cells[3:] for cells in tail_table([beta]).rows}
    assert tails["1.1", "TTFT (ms)"][-3:] == ("failed", "-", "failed")
    assert tails["1.2", "TTFT (ms)"][-3:] == ("40.0", "-", "40.0")
    window = beta.runs[0].figures.window
    assert window is not None
    assert int(tails["1.1", "E2E (ms)"][0]) == window.num_sent - 4
    page, out = render(report), io.StringIO()
    assert "counts as never answered" in page
    assert "counts as never answered" not in render(report_of(sweep))
    print_serving(report, Console(file=out, width=400, force_terminal=False))
    assert "failed" in out.getvalue()
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_point_whose_requests_mostly_failed_has_no_median() -> None:
    report = report_of(
        {**CLOSED, "concurrency": [8], "repeats": 2},  # type: ignore[dict-item]
        run=lambda unit, run: failing(run, list(range(20, 150))) if unit.repeat else run,
    )
    table = point_table(report.serving[:1])
    cells = dict(zip(table.headers, table.rows[0], strict=True))
    assert (cells["TTFT p50 (ms)"], cells["TTFT p99 (ms)"], cells["E2E p50 (s)"]) == ("failed", "failed", "failed")


def test_the_clients_own_error_stands_with_the_results() -> None:
    known = [
        calibration(calibrated_point(16, 1, error_s=0.0004), host="boot-0"),
        calibration(calibrated_point(16, 1, error_s=0.02), host="boot-1"),
    ]
    report = make_report(
        serving_ledger(
            serving_config(CLOSED),
            calibrations=known,
            change=lambda unit, found: found.model_copy(update={"streams": 8}),
        ).view()
    )
    alpha, beta = error_lines(report)
    assert "on alpha, at most: TTFT +0.00 ms (p99 +0.40 ms), p99 gap +0.00 ms, throughput +0.00%." in alpha
    assert "beyond 2% and 2 ms at flagged points" in beta
    assert "client_error" in {finding.code for finding in report.findings if finding.target == "beta"}
    page, out = render(report), io.StringIO()
    assert "The client's own error on this machine" in page
    print_serving(report, Console(file=out, width=400, force_terminal=False))
    assert alpha in out.getvalue()
    assert error_lines(report_of(CLOSED)) == []


def test_targets_are_compared_point_by_point_but_for_red_ones() -> None:
    def broken(unit: LoadUnit, run: LoadRun) -> LoadRun:
        users = unit.load.concurrency if isinstance(unit.load, ClosedLoad) else 0
        return failing(run, list(range(30))) if (unit.target, users) == ("beta", 2) else run

    report = report_of({**CLOSED, "concurrency": [2, 8]}, run=broken)  # type: ignore[dict-item]
    assert report.verdict == "INVALID"
    red, sound = report.serving_ratios
    assert (red.point, red.tpot_p50) == ("concurrency 2", None)
    assert "wrong_output_length" in red.findings
    assert (sound.baseline, sound.target, sound.point) == ("alpha", "beta", "concurrency 8")
    assert sound.tpot_p50 is not None
    assert sound.tpot_p50.ratio == pytest.approx(8 / 12)
    assert "beta against alpha, serving" in render(report)


def test_a_search_shows_its_answer_and_its_curve() -> None:
    report = report_of(SEARCH)
    alpha, beta = report.searches
    assert alpha.ended
    assert alpha.found is not None
    assert beta.found is not None
    assert beta.found > alpha.found
    assert alpha.probes[-1].role == "confirm"
    assert {probe.result for probe in alpha.probes} == {"held", "broke"}
    page = render(report)
    assert f"**{alpha.found:.4g} requests/s** keep the SLO" in page
    assert "TTFT 400 ms for 95% of the requests" in page
    # Probes are no points of a sweep.
    assert report.serving == ()


def test_a_search_that_was_cut_off_makes_the_run_incomplete() -> None:
    builder = serving_ledger(serving_config(SEARCH))
    ends = [r for r in builder.records if r.kind == "decision" and r.body["what"] == "search_end"]
    records = [r for r in builder.records if r is not ends[0]]
    builder.records = [r.model_copy(update={"seq": seq}) for seq, r in enumerate(records)]
    report = make_report(builder.view())
    assert report.verdict == "INCOMPLETE"
    assert report.provenance.num_units_missing == 1
    assert "cut off" in search_sentence(report.searches[0])


def test_a_point_without_results_has_a_row_without_figures() -> None:
    builder = serving_ledger(serving_config(OPEN))
    records = [r for r in builder.records if r.kind != "unit_done"]
    builder.records = [r.model_copy(update={"seq": seq}) for seq, r in enumerate(records)]
    report = make_report(builder.view())
    assert report.verdict == "INCOMPLETE"
    assert all(row.output_tok_per_s is None and row.runs == () for row in report.serving)
    assert "0 of 1" in render(report)


def test_slos_in_words() -> None:
    slo = Slo(ttft_ms=300, ttft_ms_per_1k_input=50, tpot_ms=30, longest_gap_ms=200, e2e_s=9, share=0.95)
    assert slo_words(slo) == (
        "TTFT 300 ms + 50 ms per 1,000 prompt tokens, TPOT 30 ms, longest gap 200 ms, E2E 9 s for 95% of the requests"
    )


def test_an_unsteady_run_is_said_to_be_one() -> None:
    def cut(unit: LoadUnit, run: LoadRun) -> LoadRun:
        ended = run.columns.end_ns.copy()
        ended[:] = -1
        return failing(replace(run, columns=replace(run.columns, end_ns=ended)), list(range(len(ended))))

    report = report_of({**CLOSED, "concurrency": [2]}, run=cut)  # type: ignore[dict-item]
    assert {"wrong_output_length", "short_window"} <= {f.code for f in report.findings}
    assert report.serving[0].ttft_p50_s is None
