"""Comparisons as somebody tries them who trusts nobody: runs of one name, of other versions, of serving loads alone."""

import json
from pathlib import Path

import pytest
from ledger_builder import LedgerBuilder, config, whole_ledger
from load_ledgers import CLOSED, OPEN, SEARCH, serving_ledger
from load_runs import failing
from pydantic import JsonValue
from simulated_study import source_of
from typer.testing import CliRunner

from raybench.cli import app
from raybench.errors import PublishError
from raybench.publish import view_text, views
from raybench.publish.comparison import Compared, compare, comparison_run
from raybench.publish.content import Cell, Publication
from raybench.publish.joined import ACCURACY_COLUMNS, better
from raybench.publish.parquet_sink import ParquetSink
from raybench.publish.targets import Source, target_runs
from raybench.publish.view_store import spec_of
from raybench.records import EngineFacts, LoadUnit, PerfMeasurement, PerfUnit
from raybench.stats.compare import Ratio
from raybench.stats.latency import LoadRun


def later(builder: LedgerBuilder, **changes: JsonValue) -> LedgerBuilder:
    """The same study, measured again."""
    body = builder.records[0].body | {"run_id": "study-2"} | changes
    builder.records[0] = builder.records[0].model_copy(update={"body": body})
    return builder


def compared(*builders: LedgerBuilder) -> Compared:
    return compare([source_of(builder) for builder in builders], "hashed", "2026-01-01")


def rows_of(table: str) -> list[list[str]]:
    """Cells of the lines of a Markdown table."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]


def test_a_run_is_not_compared_with_itself() -> None:
    with pytest.raises(PublishError, match=r"the same run, study-[0-9a-f]{8}, was given twice"):
        compared(whole_ledger(), whole_ledger())


def test_two_runs_of_one_study_have_names_that_tell_them_apart() -> None:
    sources = [source_of(whole_ledger()), source_of(later(whole_ledger()))]
    runs = [run for source in sources for run in target_runs(source, "hashed")]
    assert len({run.name for run in runs}) == len({run.id for run in runs}) == 4
    made = compare(sources, "hashed", "2026-01-01")
    assert all(source.group in made.title for source in sources)
    alone = compare(sources[:1], "hashed", "2026-01-01")
    assert alone.title == "alpha against beta · some-model · 2026-01-01"


def _of_version(version: str, backend: str) -> LedgerBuilder:
    def change(facts: EngineFacts) -> EngineFacts:
        resolved = facts.resolved_args | {"attention_backend": backend}
        return facts.model_copy(update={"version": version, "resolved_args": resolved})

    return whole_ledger(engine=change)


def test_runs_of_other_versions_say_so_above_their_ratios() -> None:
    old, new = _of_version("0.5.17", "fa3"), later(_of_version("0.5.21", "trtllm_mha"), raybench_version="0.2.0")
    made = compared(old, new)
    first, second = (arm.label for arm in made.arms[::2])
    head, _, *body = rows_of(view_text.differences(made))
    assert head[2:] == [arm.label for arm in made.arms]
    assert ["engine version", "-", "0.5.17", "0.5.17", "0.5.21", "0.5.21"] in body
    assert ["raybench version", "-", "0.1.0", "0.1.0", "0.2.0", "0.2.0"] in body
    assert ["attention_backend", "engine's choice", "fa3", "fa3", "trtllm_mha", "trtllm_mha"] in body
    lines = view_text.summary(made).split("\n\n")
    (said,) = [line for line in lines if "ENGINE VERSION" in line]
    assert f"{first}: 0.5.17" in said
    assert f"{second}: 0.5.21" in said
    assert "OTHER" not in view_text.summary(compared(whole_ledger(), later(whole_ledger())))


def test_what_differs_names_its_targets() -> None:
    """With three of them, a value without a name could be anybody's."""
    sizes = {"a": 1, "b": 1, "c": 16}
    three = whole_ledger(
        config(targets=[{"name": name, "accelerator": "H200", "gpus_per_node": 8} for name in sizes]),
        engine=lambda f: f.model_copy(update={"resolved_args": {"page_size": sizes[f.target]}}),
    )
    head, _, *body = rows_of(view_text.differences(compared(three)))
    assert head[2:] == ["a", "b", "c"]
    assert body == [["page_size", "engine's choice", "1", "1", "16"]]
    one = config(targets=[{"name": "a", "accelerator": "H200", "gpus_per_node": 8}])
    assert view_text.differences(compared(whole_ledger(one))).startswith("Same model")


def _accuracy(made: Compared) -> list[dict[str, Cell]]:
    return [dict(zip(ACCURACY_COLUMNS, row, strict=True)) for row in made.accuracy.rows]


def test_an_eval_that_misses_samples_is_compared_with_nothing() -> None:
    whole = compared(whole_ledger())
    assert [row["not_compared"] for row in _accuracy(whole)] == [None, None]
    assert _accuracy(whole)[1]["difference"] == pytest.approx(0.05)
    source = source_of(whole_ledger(skip=lambda key: key == "alpha-sums-1"))
    made = compare([source], "hashed", "2026-01-01")
    baseline, row = _accuracy(made)
    reason = "20 samples missing: short replies come back first"
    assert (baseline["not_compared"], row["not_compared"]) == (None, reason)
    assert {row[name] for name in ("difference", "difference_lo", "difference_hi", "permutation_p")} == {None}
    assert f"| - ({reason}) |" in view_text.scores(made)
    assert not [name for name in comparison_run(made, [source], []).summary if name.endswith("/difference")]


def _asked(**changes: JsonValue) -> LedgerBuilder:
    settings: dict[str, JsonValue] = {"name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}}
    return whole_ledger(config(evals=[settings | changes]))


@pytest.mark.parametrize(
    ("change", "name", "values"),
    [
        ({"sampling": {"temperature": 0, "max_tokens": 128}}, "max_tokens", ["64", "128"]),
        ({"sampling": {"temperature": 0.7, "max_tokens": 64}}, "temperature", ["0.0", "0.7"]),
        ({"route": "completions"}, "route", ["chat", "completions"]),
    ],
)
def test_evals_that_were_asked_otherwise_are_not_compared(
    change: dict[str, JsonValue], name: str, values: list[str]
) -> None:
    made = compared(_asked(), later(_asked(**change)))
    seen = {str(row["target"]): row for row in _accuracy(made)}
    first, same_run, *others = (seen[arm.label] for arm in made.arms)
    assert first["not_compared"] is same_run["not_compared"] is None
    assert same_run["difference"] == pytest.approx(0.05)
    assert [(row["not_compared"], row["difference"]) for row in others] == 2 * [(f"asked otherwise: {name}", None)]
    [said] = [row for row in rows_of(view_text.differences(made)) if row[0].startswith("sums: ")]
    assert said == [f"sums: {name}", "-", values[0], values[0], values[1], values[1]]


def test_evals_with_another_prompt_are_not_compared() -> None:
    other = _asked()
    [planned] = [number for number, record in enumerate(other.records) if record.kind == "plan"]
    body = json.loads(json.dumps(other.records[planned].body).replace("+ 1?", "+ 1? Be brief."))
    other.records[planned] = other.records[planned].model_copy(update={"body": body})
    made = compared(_asked(), later(other))
    reason = "asked otherwise: questions and prompts"
    assert [row["not_compared"] for row in _accuracy(made)] == [None, None, reason, reason]
    [said] = [row for row in made.differences.rows if str(row[0]).startswith("sums: ")]
    assert said[0] == "sums: questions and prompts"
    assert said[2] == said[3] != said[4] == said[5]


def test_evals_that_were_asked_the_same_are_compared_over_runs() -> None:
    made = compared(_asked(), later(_asked(margin=0.2, concurrency=8)))
    assert [row["not_compared"] for row in _accuracy(made)] == 4 * [None]
    assert [row["difference"] for row in _accuracy(made)][1:] == pytest.approx([0.05, 0, 0.05])
    assert not [row for row in made.differences.rows if str(row[0]).startswith("sums: ")]
    beside = compared(_asked(), later(whole_ledger(config(evals=[]))))
    assert not [row for row in beside.differences.rows if str(row[0]).startswith("sums: ")], "one side has no such eval"


TWO_SWEEPS: list[JsonValue] = [
    {"name": name, "batch_sizes": [1, 4], "input_tokens": 1000, "output_tokens": 101, "repeats": 1}
    for name in ("cold", "warm")
]


@pytest.mark.parametrize(
    ("alpha", "beta", "winner"), [(1, 1, None), (3, 3, None), (4, 3, None), (4, 4, "target"), (5, 4, "target")]
)
def test_a_winner_is_named_by_four_repeats_of_each_side(alpha: int, beta: int, winner: str | None) -> None:
    """Of equal targets one is ahead in all of 3 repeats in 10% of comparisons, in all of 4 in 2.9%."""
    wanted = {"alpha": alpha, "beta": beta}
    sweep: JsonValue = {"name": "s", "batch_sizes": [1], "input_tokens": 1000, "output_tokens": 101, "repeats": 5}

    def extra(key: str) -> bool:
        target, _, rest = key.partition("-s-b1-r")
        return bool(rest) and int(rest[0]) >= wanted[target]

    made = compared(whole_ledger(config(perf=[sweep]), skip=extra))
    assert {row[10] for row in made.speed.rows} == {winner}
    assert all(row[7] is not None for row in made.speed.rows), "the ratio is shown all the same"


@pytest.mark.parametrize(("low", "high", "more", "said"), [
    (1.1, 1.2, True, "target"), (1.1, 1.2, False, "baseline"), (0.8, 0.9, False, "target"), (0.9, 1.1, True, "same"),
])  # fmt: skip
def test_better_follows_the_whole_range(low: float, high: float, more: bool, said: str) -> None:
    assert better(Ratio(ratio=1.0, low=low, high=high, num_a=4, num_b=4), more) == said


def _warm_is_faster(unit: PerfUnit, measured: PerfMeasurement) -> PerfMeasurement:
    whole = measured.measured
    factor = 0.5 if unit.sweep == "warm" and unit.target == "beta" else 1.0
    changes = {"latency_s": whole.latency_s * factor, "last_ttft_s": (whole.last_ttft_s or 0) * factor}
    return measured.model_copy(update={"measured": whole.model_copy(update=changes)})


def test_sweeps_of_one_shape_are_not_mixed_up() -> None:
    made = compared(whole_ledger(config(perf=TWO_SWEEPS), perf=_warm_is_faster))
    found = {(row[1], row[2]): row[7] for row in made.speed.rows if row[0] == "latency_s"}
    assert found.keys() == {(sweep, size) for sweep in ("cold", "warm") for size in (1, 4)}
    assert all(found["warm", size] == pytest.approx(float(found["cold", size] or 0) / 2) for size in (1, 4))


def test_sweeps_of_one_run_are_lines_of_their_own() -> None:
    source = source_of(whole_ledger(config(perf=TWO_SWEEPS)))
    runs = target_runs(source, "hashed")
    for sweep in ("cold", "warm"):
        mine = [row.values for row in runs[0].history if f"perf/{sweep}/output_tok_s" in row.values]
        assert [(row["perf/sweep"], row["perf/batch_size"]) for row in mine] == [(sweep, 1), (sweep, 4)]
        assert all(row[f"perf/{sweep}/output_tok_s"] == row["perf/output_tok_s"] for row in mine)
    drawn = [plot.y for plot in views.performance(compare([source], "hashed", "2026-01-01"))]
    assert ["perf/cold/itl_ms"] in drawn
    assert ["perf/warm/itl_ms"] in drawn
    assert ["perf/itl_ms"] not in drawn
    one = source_of(whole_ledger())
    assert not [name for row in target_runs(one, "hashed")[0].history for name in row.values if name.count("/") > 1]


def _parquet(folder: Path, source: Source) -> str:
    publication = Publication(target_runs(source, "hashed"), len(source.records), closed=True)
    ParquetSink(folder).publish(publication)
    return source.sweep


def test_the_terminal_shows_every_sweep_and_every_serving_load(tmp_path: Path) -> None:
    _parquet(tmp_path, source_of(whole_ledger(config(perf=TWO_SWEEPS))))
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    cells = [[c.strip() for c in line.split("│")[1:5]] for line in shown.output.splitlines()]
    for sweep in ("cold", "warm"):
        assert [c[3] for c in cells if c[:1] == [sweep]] == ["1", "4"]
    loads = tmp_path / "loads"
    sweep = _parquet(loads, source_of(serving_ledger()))
    shown = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["compare", str(loads), "--metric", "ttft_p50_ms"])
    assert shown.exit_code == 0, shown.output
    (head,) = [line for line in shown.output.splitlines() if f"alpha@{sweep}" in line and "load" in line]
    assert f"beta@{sweep}" in head
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    assert [row[0::2][:2] for row in rows if row[0] in ("users", "rates")] == [
        ["rates", "3"], ["rates", "6"], ["users", "6"], ["users", "8"],
    ]  # fmt: skip
    assert [row[4] for row in rows if row[:1] == ["users"]] == ["40.0 (0.667)"] * 2


def test_points_with_failed_requests_are_compared_by_what_they_have() -> None:
    def broken(unit: LoadUnit, run: LoadRun) -> LoadRun:
        return failing(run, list(range(10, 130))) if unit.target == "beta" else run

    source = source_of(serving_ledger(config(perf=[CLOSED], evals=[]), run=broken))
    cells = {(row[0], row[1], row[3]): row for row in compare([source], "hashed", "2026-01-01").serving.rows}
    row = cells["ttft_p50_ms", "users", 6]
    assert (row[4:6], row[7:9]) == (("alpha", "beta"), (None, None))
    assert row[6] == pytest.approx(60, rel=0.01)


def test_serving_loads_are_compared_point_by_point() -> None:
    sweeps = [CLOSED | {"repeats": 4}, OPEN | {"repeats": 4}]  # type: ignore[operator]
    source = source_of(serving_ledger(config(perf=sweeps, evals=[])))
    made = compare([source], "hashed", "2026-01-01")
    points = {(row[1], row[3]) for row in made.serving.rows}
    assert points == {("users", 6), ("users", 8), ("rates", 3), ("rates", 6)}
    cells = {(row[0], row[1], row[3]): row for row in made.serving.rows}
    # alpha: 60 ms to the first token and 12 ms for each other one; beta: 40 and 8.
    row = cells["tpot_p50_ms", "users", 6]
    assert row[4:6] == ("alpha", "beta")
    assert [float(value or 0) for value in row[6:9]] == pytest.approx([12, 8, 2 / 3], rel=0.01)
    assert row[11] == "target"
    assert cells["output_tok_s", "users", 6][11] == "target"
    assert cells["output_tok_s", "rates", 3][11] is None, "a rate is asked for, not reached"
    single = compared(serving_ledger(config(perf=[CLOSED], evals=[])))
    assert {row[11] for row in single.serving.rows} == {None}, "one run of each names no winner"
    content = comparison_run(made, [source], [])
    assert content.summary["compare/beta/users/c6/tpot_p50_ms_ratio"] == row[8]
    assert "compare/serving" in {table.name for table in content.tables}


def test_serving_loads_are_drawn_and_told() -> None:
    source = source_of(serving_ledger())
    made = compare([source], "hashed", "2026-01-01")
    runs = target_runs(source, "hashed")
    logged = {name for run in runs for row in run.history for name in row.values}
    plots = views.serving_loads(made)
    assert {plot.x for plot in plots} == {"serving/x"}
    assert {name for plot in plots for name in plot.y or []} <= logged, "nothing is drawn that is not there"
    spec = spec_of(views.report(made, runs, "team", "raybench"))
    assert "serving/users/ttft_p99_ms" in spec
    assert spec_of(views.workspace(made, runs, "team", "raybench")).count("serving/rates/tpot_p50_ms") >= 1
    told = view_text.serving(made)
    assert len([row for row in rows_of(told) if row[0] in ("users", "rates")]) == 4
    assert [row[2] for row in rows_of(told) if row[0] == "limit"] == ["alpha", "beta"]
    assert '"Serving"' not in spec_of(views.report(compared(whole_ledger()), runs, "team", "raybench"))


def test_every_run_of_a_serving_load_and_every_probe_is_in_a_table() -> None:
    sweeps = [{**CLOSED, "repeats": 2}, OPEN, SEARCH]  # type: ignore[dict-item]
    source = source_of(serving_ledger(config(perf=sweeps, evals=[])))
    tables = {table.name: table for table in target_runs(source, "hashed")[0].tables}
    loads = [dict(zip(tables["tables/loads"].columns, row, strict=True)) for row in tables["tables/loads"].rows]
    assert [(row["sweep"], row["x"], row["repeat"]) for row in loads] == [
        ("rates", 3, 0), ("rates", 6, 0), ("users", 6, 0), ("users", 6, 1), ("users", 8, 0), ("users", 8, 1),
    ]  # fmt: skip
    assert loads[-1]["ttft_p50_ms"] == pytest.approx(60, rel=0.01)
    searched = next(row for row in source.report.searches if row.target == "alpha")
    assert [row[2] for row in tables["tables/probes"].rows] == [probe.number for probe in searched.probes]
    assert "tables/loads" not in {t.name for t in target_runs(source_of(whole_ledger()), "hashed")[0].tables}


def test_serving_loads_beside_another_run_with_batches_only() -> None:
    made = compared(serving_ledger(), later(whole_ledger()))
    assert made.speed.rows == ()
    assert {row[5].split("@")[0] for row in made.serving.rows if isinstance(row[5], str)} == {"beta"}
    assert "No load point that two targets share." in view_text.ratios(made)


def test_a_unit_that_came_back_twice_gives_another_row() -> None:
    """The last result counts, and W&B takes no step a second time: the row that was sent holds the first one."""
    builder = whole_ledger()
    before = [row.step for row in target_runs(source_of(builder), "hashed")[0].history]
    end = builder.records.pop()
    unit = next(unit for unit in builder.plan.units if unit.key == "alpha-static-b4-r0-l0")
    assert isinstance(unit, PerfUnit)
    builder.perf_done(unit, "n0.0", _slower, attempt=2)
    builder.records.append(end.model_copy(update={"seq": len(builder.records)}))
    history = target_runs(source_of(builder), "hashed")[0].history
    assert [row.step for row in history][: len(before)] == before
    assert [row.values["perf/batch_size"] for row in history] == [1, 4, 16, 4]
    assert history[-1].values["perf/attempt"] == 2


def _slower(unit: PerfUnit, measured: PerfMeasurement) -> PerfMeasurement:
    whole = measured.measured
    return measured.model_copy(update={"measured": whole.model_copy(update={"latency_s": 2 * whole.latency_s})})
