"""The report of a ledger: figures on paper, golden pages, both bounds, and the same bytes every time."""

import json
import random
from pathlib import Path

import pytest
from ledger_builder import LedgerBuilder, config, whole_ledger
from report_cases import CASES, terminal_text

from raybench.records import EvalUnit, Finding, PerfMeasurement, PerfUnit
from raybench.report import numbers, words
from raybench.report.markdown import render
from raybench.report.model import Report
from raybench.report.summary import make_report
from raybench.report.tables import Table, markdown_table
from raybench.stats.compare import ratio

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", list(CASES))
def test_pages_are_the_golden_ones(name: str) -> None:
    """After a wanted change: `python tests/report/make_golden.py`, and read the difference."""
    report = make_report(CASES[name]().view())
    assert render(report) == (HERE / f"{name}.md").read_text()
    assert terminal_text(report, 80) == (HERE / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("width", [80, 120])
def test_terminal_fits(name: str, width: int) -> None:
    lines = terminal_text(make_report(CASES[name]().view()), width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width


def test_schema_is_frozen() -> None:
    assert Report.model_json_schema() == json.loads((HERE / "report.schema.json").read_text())


@pytest.mark.parametrize("name", list(CASES))
def test_report_survives_its_own_dump_byte_for_byte(name: str) -> None:
    report = make_report(CASES[name]().view())
    text = report.model_dump_json(indent=1)
    assert Report.model_validate_json(text) == report
    assert make_report(CASES[name]().view()).model_dump_json(indent=1) == text


def test_the_order_of_results_changes_no_page() -> None:
    """Units come back in another order on every run; the pages are in plan order. Only wall clocks may differ."""
    builder = whole_ledger()
    head, tail = builder.records[:6], builder.records[6:]
    times = [record.t for record in tail]
    random.Random(1).shuffle(tail)
    other = LedgerBuilder(builder.settings)
    other.records = [
        *head,
        *(
            record.model_copy(update={"t": t, "seq": n})
            for n, (record, t) in enumerate(zip(tail, times, strict=True), 6)
        ),
    ]
    assert render(make_report(other.view())) == render(make_report(builder.view()))


def test_figures_on_paper() -> None:
    """alpha at batch 4: TTFT 4,000 / 20,000 = 0.2 s, 101 steps of 12 ms; the second repeat is 1% slower."""
    row = next(r for r in make_report(whole_ledger().view()).perf if (r.target, r.batch_size) == ("alpha", 4))
    assert row.latency_s is not None and row.itl_ms is not None and row.output_tok_per_s is not None
    assert row.last_ttft_s is not None and row.input_tok_per_s is not None
    assert (row.latency_s.min, row.latency_s.max) == pytest.approx((1.412, 1.412 * 1.01))
    assert row.latency_s.median == pytest.approx(1.412 * 1.005)
    assert row.itl_ms.min == pytest.approx(12.0)
    assert row.output_tok_per_s.max == pytest.approx(4 / 0.012)
    assert row.last_ttft_s.min == pytest.approx(0.2)
    assert row.input_tok_per_s.max == pytest.approx(20_000)
    assert row.output_tok_per_s_per_gpu == pytest.approx(row.output_tok_per_s.median / 8)
    # 8 GPUs at 2.00 an hour, a million tokens at the median rate.
    assert row.output_price_per_million_tokens == pytest.approx(16 / 3600 * 1e6 / row.output_tok_per_s.median)
    assert row.mean_power_w == 8 * 500.0
    assert [(repeat.repeat, repeat.node, repeat.start) for repeat in row.repeats] == [
        (0, "n0", "n0.0"),
        (1, "n0", "n0.0"),
    ]


def test_no_price_and_no_gpu_means_no_cost() -> None:
    targets = [{"name": "alpha", "accelerator": "CPU"}, {"name": "beta", "accelerator": "CPU", "price_per_gpu_hour": 1}]
    report = make_report(whole_ledger(config(targets=targets)).view())
    assert {row.output_price_per_million_tokens for row in report.perf} == {None}
    assert {row.output_tok_per_s_per_gpu for row in report.perf} == {None}
    assert "Cost" not in render(report)


def test_ratios_and_their_range() -> None:
    comparison = make_report(whole_ledger().view()).comparisons[0]
    assert (comparison.baseline, comparison.target, comparison.kind) == ("alpha", "beta", "targets")
    itl = comparison.rows[0].itl
    assert itl is not None
    assert (itl.ratio, itl.low, itl.high) == pytest.approx((0.8, 8 / 10.1, 8.08 / 10))
    output, price = comparison.rows[0].output_throughput, comparison.rows[0].output_price
    assert output is not None and price is not None
    assert price.ratio == pytest.approx(2 / output.ratio)  # twice the price
    assert price.low == pytest.approx(2 / output.high)


def test_a_ratio_whose_range_holds_one_is_marked() -> None:
    def wide(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        if unit.repeat == 0:
            return result
        slow = result.measured.model_copy(update={"latency_s": 3 * result.measured.latency_s})
        return result.model_copy(update={"measured": slow})

    report = make_report(whole_ledger(perf=wide).view())
    assert "output throughput ~1.2" in render(report)
    assert "the repeats of the two overlap" in terminal_text(report, 200)
    assert "~" not in terminal_text(make_report(whole_ledger().view()), 200)


def test_single_passes_say_neither_that_they_overlap_nor_that_they_do_not() -> None:
    one = ratio([90.0], [100.0])
    assert numbers.overlaps(one) is None
    assert numbers.overlaps(ratio([90.0, 91.0], [100.0])) is False
    assert numbers.overlaps(ratio([90.0, 101.0], [100.0])) is True
    assert numbers.times(one, with_range=False) == "0.90x"

    def wide_at_the_largest(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        slow = 3 if unit.repeat and unit.load.batch_size == 16 else 1
        changed = result.measured.model_copy(update={"latency_s": slow * result.measured.latency_s})
        return result.model_copy(update={"measured": changed})

    def second_pass(key: str) -> bool:
        return "-b1-r1-" in key

    said = "Single passes have no range, so that none of them is marked."
    mixed = make_report(whole_ledger(perf=wide_at_the_largest, skip=second_pass).view())
    assert f"~ = the repeats of the two overlap. {said}" in render(mixed)
    assert said in terminal_text(mixed, 400)
    repeated = make_report(whole_ledger(perf=wide_at_the_largest).view())
    assert "~ = the repeats of the two overlap." in render(repeated)
    assert said not in render(repeated) + terminal_text(repeated, 400)
    single = make_report(whole_ledger(skip=lambda key: "-r1-" in key).view())
    assert "single passes" in render(single)
    assert "overlap" not in render(single) + terminal_text(single, 400)


def test_footing_names_machines_and_launches() -> None:
    assert make_report(whole_ledger().view()).comparisons[0].caveat.startswith("One machine each, one launch.")
    shared = whole_ledger()
    shared.records = [
        r.model_copy(update={"body": r.body | {"host": "boot-0"}}) if r.kind == "node" else r for r in shared.records
    ]
    assert make_report(shared.view()).comparisons[0].caveat.startswith("One machine for both, one launch each.")


def test_footing_counts_launches() -> None:
    builder = whole_ledger()
    builder.engine("alpha", "n0.1")
    unit = builder.plan.units[0]
    assert isinstance(unit, PerfUnit)
    builder.perf_done(unit, "n0.1", attempt=2)
    assert (
        make_report(builder.view()).comparisons[0].caveat == "alpha: 1 machine, 2 launches; beta: 1 machine, 1 launch."
    )


def test_one_target_and_evals_only() -> None:
    report = make_report(whole_ledger(config(targets=[{"name": "alpha", "accelerator": "CPU"}], perf=[])).view())
    assert report.comparisons == ()
    assert "## Performance" not in render(report)
    assert "sums on alpha" in terminal_text(report, 80)


def test_three_targets_are_shown_one_by_one() -> None:
    targets = [{"name": name, "accelerator": "CPU"} for name in ("alpha", "beta", "gamma")]
    report = make_report(whole_ledger(config(targets=targets)).view())
    assert [(c.baseline, c.target) for c in report.comparisons] == [("alpha", "beta"), ("alpha", "gamma")]
    text = terminal_text(report, 80)
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "gamma" in text


def test_incomplete_prints_both_bounds_and_how_to_resume() -> None:
    missing = "alpha-sums-1"
    report = make_report(whole_ledger(skip=lambda key: key == missing).view())
    assert report.verdict == "INCOMPLETE"
    assert (report.provenance.num_units_missing, report.provenance.num_samples_missing) == (1, 20)
    page = render(report)
    assert "Missing: 1 of 16 units, 20 of 80 samples." in page
    assert "`raybench run study.yaml --resume RUN_DIR`" in page
    accuracy = report.evals[0].accuracy
    assert (accuracy.worst, accuracy.best) == (18 / 40, 38 / 40)
    assert "45.0 if every missing or errored sample were wrong, 95.0 if every one were right" in page
    assert "score between 45.0 and 95.0 with them" in terminal_text(report, 120)
    gate = report.evals[0].accuracy.gate
    assert gate is not None
    assert gate.verdict == "INCOMPLETE"
    assert "no verdict: 20 of 40 samples are missing" in page


def test_a_run_that_never_had_a_plan_is_incomplete() -> None:
    builder = LedgerBuilder(config())
    builder.session()
    report = make_report(builder.view())
    assert report.verdict == "INCOMPLETE"
    assert "ended before its plan was written" in render(report)
    assert terminal_text(report, 80)


def test_missing_point_has_a_row_without_figures() -> None:
    report = make_report(whole_ledger(skip=lambda key: "alpha-static-b16" in key).view())
    row = next(r for r in report.perf if (r.target, r.batch_size) == ("alpha", 16))
    assert (row.latency_s, row.num_planned, row.repeats) == (None, 2, ())
    assert "0 of 2" in render(report)
    assert report.comparisons[0].rows[2].itl is None


def test_resume_hint_drops_out_and_an_earlier_resume() -> None:
    builder = whole_ledger(skip=lambda key: key == "alpha-sums-1")
    command = ["raybench", "run", "study.yaml", "--out", "here", "--set", "seed=7", "--resume=there"]
    first = builder.records[0]
    builder.records[0] = first.model_copy(update={"body": first.body | {"command": command}})
    assert words.resume_command(make_report(builder.view())) == "raybench run study.yaml --set seed=7 --resume RUN_DIR"


def test_a_row_is_never_shown_without_its_finding() -> None:
    def cached(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        if unit.key != "beta-static-b16-r1-l0":
            return result
        return result.model_copy(update={"measured": result.measured.model_copy(update={"cached_tokens": 4000})})

    report = make_report(whole_ledger(perf=cached).view())
    assert [row.findings for row in report.perf] == [()] * 5 + [("unexpected_cache_hits",)]
    assert report.verdict == "INVALID"
    marked = [line for line in terminal_text(report, 80).splitlines() if "!16" in line]
    assert len(marked) == 1
    row = report.comparisons[0].rows[-1]
    assert (row.findings, row.output_throughput, row.itl, row.output_price) == (
        ("unexpected_cache_hits",), None, None, None,
    )  # fmt: skip
    assert "Not compared: batch 16." in words.in_short(report)[0]


def test_a_comparison_of_which_nothing_is_left_says_so() -> None:
    def short(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        return result.model_copy(update={"measured": result.measured.model_copy(update={"min_output_tokens": 3})})

    line = words.in_short(make_report(whole_ledger(perf=short).view()))[0]
    assert line == "**beta** against **alpha**: not compared at any batch size; findings: `wrong_output_length`."


def test_a_comparison_is_never_shown_without_its_warnings() -> None:
    report = make_report(whole_ledger(perf=lambda unit, result: result.model_copy(update={"flat": False})).view())
    assert all(row.findings == ("cold_start",) and row.itl is not None for row in report.comparisons[0].rows)
    assert "Batch 1: `cold_start`. Batch 16: `cold_start`." in words.in_short(report)[0]


def test_a_red_point_is_not_held_against_published_rows() -> None:
    def short(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        if unit.load.batch_size != 64:
            return result
        return result.model_copy(update={"measured": result.measured.model_copy(update={"min_output_tokens": 3})})

    settings = CASES["golden_simulated"]().settings
    published = make_report(whole_ledger(settings, perf=short).view()).comparisons[-1]
    assert published.kind == "reference"
    assert [row.output_throughput is None for row in published.rows] == [False, False, True]
    assert published.rows[-1].findings == ("wrong_output_length",)


def test_a_score_is_never_shown_without_its_finding() -> None:
    report = make_report(CASES["golden_invalid"]().view())
    assert [row.findings for row in report.evals] == [("truncated",)] * 2
    assert all("Findings: `truncated`." in line for line in words.in_short(report)[1:])
    assert terminal_text(report, 200).count("findings: truncated") == 2


@pytest.mark.parametrize(
    ("nums", "text"),
    [([1, 1], "single passes"), ([3, 3], "medians of 3 passes"), ([3, 1], "medians of 1 to 3 passes")],
)
def test_the_number_of_passes_is_that_of_the_figures(nums: list[int], text: str) -> None:
    assert words.passes_text(nums) == text


def test_broken_passes_enter_no_figure() -> None:
    def broken(unit: PerfUnit, result: PerfMeasurement) -> PerfMeasurement:
        if unit.key != "alpha-static-b4-r1-l0":
            return result
        return result.model_copy(
            update={"measured": result.measured.model_copy(update={"num_ok": 0, "latency_s": 99.0})}
        )

    row = next(
        r for r in make_report(whole_ledger(perf=broken).view()).perf if (r.target, r.batch_size) == ("alpha", 4)
    )
    assert row.latency_s is not None
    assert (len(row.repeats), row.latency_s.max) == (1, pytest.approx(1.412))
    assert "; medians of 1 to 2 passes" in terminal_text(make_report(whole_ledger(perf=broken).view()), 80)


def test_findings_are_grouped_red_first() -> None:
    report = make_report(CASES["golden_invalid"]().view())
    marks = [group.mark for group in words.groups(report.findings)]
    assert marks == sorted(marks, key=["RED", "WARNING", "NOTE"].index)
    assert len(words.groups(report.findings)) < len(report.findings)


def test_many_alike_findings_are_told_once() -> None:
    findings = [
        Finding(
            code="new_check",
            severity="warn",
            scope="unit",
            target="a",
            rule="r",
            evidence={"batch_size": n},
            advice="x",
        )
        for n in range(1, 10)
    ]
    [group] = words.groups(findings)
    assert (group.num, group.title) == (9, "New check")
    assert group.seen[-1] == "and 6 more like these"


@pytest.mark.parametrize(
    ("advice", "shown"),
    [
        ("n1 and n0 differ", "n1 and n0 differ."),
        ("aime25: look at it", "aime25: look at it."),
        ("look at it", "Look at it."),
    ],
)
def test_an_advice_is_a_sentence_that_keeps_the_names_of_things(advice: str, shown: str) -> None:
    [group] = words.groups(
        [Finding(code="new_check", severity="warn", scope="run", rule="r", evidence={}, advice=advice)]
    )
    assert group.advice == (shown,)


def test_every_title_belongs_to_a_check_that_exists() -> None:
    source = "".join(
        path.read_text()
        for room in ("validity", "report")
        for path in (HERE.parents[1] / "raybench" / room).glob("*.py")
        if path.name != "words.py"
    )
    for code in words.TITLES:
        stem = code.removeprefix("ttft").removeprefix("itl")
        assert f'"{code}"' in source or stem in source, code


@pytest.mark.parametrize(
    ("path", "accelerator", "labels"),
    [
        ("dummy:qwen3-235b-a22b-fp8-tp8-ep2-rank", "H200", ["published, 8 x H200"]),
        ("org/Qwen3-235B-A22B-Instruct-2507-FP8", "B200", ["published, 8 x B200"]),
        ("dummy:qwen3-235b-a22b-fp8-11-layers", "H200", []),
        ("dummy:qwen3-235b-a22b-fp8-tp8-ep2-rank", "CPU", []),
    ],
)
def test_published_rows_stand_beside_their_model_only(path: str, accelerator: str, labels: list[str]) -> None:
    sweep = {"name": "static", "batch_sizes": [1, 3, 64], "input_tokens": 4096, "output_tokens": 512, "repeats": 1}
    settings = config(model={"path": path}, targets=[{"name": "alpha", "accelerator": accelerator}], perf=[sweep])
    report = make_report(whole_ledger(settings).view())
    assert [comparison.baseline for comparison in report.comparisons] == labels
    for comparison in report.comparisons:
        assert [row.batch_size for row in comparison.rows] == [1, 64]
        assert ("One rank without communication" in comparison.caveat) == path.endswith("rank")
        itl = comparison.rows[0].itl
        published = comparison.reference_rows[0].itl_ms
        assert itl is not None and itl.ratio == pytest.approx(10.0 / published)
        assert f"Reference: alpha beside {labels[0]}" in render(report)


def test_published_rows_need_the_published_lengths() -> None:
    settings = config(model={"path": "qwen3-235b-a22b-fp8"})
    assert [c.kind for c in make_report(whole_ledger(settings).view()).comparisons] == ["targets"]


def test_table_cells_cannot_break_the_table() -> None:
    assert markdown_table(Table(("a",), (("x|y\nz",),), num_left=1)).splitlines()[-1] == "| x\\|y z |"


def test_samples_count_by_target() -> None:
    builder = whole_ledger()
    planned = sum(len(unit.samples) for unit in builder.plan.units if isinstance(unit, EvalUnit))
    report = make_report(builder.view())
    assert sum(target.num_samples_done for target in report.targets) == planned == 80
