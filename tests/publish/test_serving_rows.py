"""Serving loads in the sinks: a history row for each point, flat keys, a Parquet table of their own."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from ledger_builder import LedgerBuilder, config
from load_ledgers import CLOSED, OPEN, SEARCH, serving_ledger
from load_runs import failing
from publishers import access, publish
from wandb_service import WandbService, serving

from raybench.publish.content import RunContent
from raybench.publish.source import read_source
from raybench.publish.targets import target_runs

MIXED = [{**CLOSED, "concurrency": [8, 6], "repeats": 2}, OPEN, SEARCH]  # type: ignore[dict-item]


@pytest.fixture
def service() -> Iterator[WandbService]:
    with serving() as made:
        yield made


def _builder(sink: str = "wandb") -> LedgerBuilder:
    return serving_ledger(config(perf=MIXED, evals=[], publish={"sinks": [sink]}))


def _run(folder: Path) -> RunContent:
    return target_runs(read_source(folder), "hashed")[0]


def test_every_point_is_a_row_with_what_its_sweep_varies_as_x(tmp_path: Path) -> None:
    run = _run(_builder().write(tmp_path / "run"))
    rows = [row.values for row in run.history]
    assert [(row["serving/sweep"], row["serving/x"]) for row in rows] == [
        ("users", 6), ("users", 8), ("rates", 3), ("rates", 6),
    ]  # fmt: skip
    assert [row.step for row in run.history] == sorted({row.step for row in run.history})
    assert [row.get("serving/concurrency") for row in rows] == [6, 8, None, None]
    assert [row.get("serving/rate_per_s") for row in rows] == [None, None, 3, 6]
    first = rows[0]
    assert (first["serving/runs"], first["serving/kind"]) == (2, "closed")
    # alpha: 60 ms to the first token, 12 ms for each other one.
    assert first["serving/ttft_p50_ms"] == pytest.approx(60, rel=0.01)
    assert first["serving/tpot_p50_ms"] == pytest.approx(12, rel=0.01)
    assert first["serving/interactivity_tok_s_user"] == pytest.approx(1000 / 12, rel=0.01)
    assert first["serving/good_fraction"] == 1
    assert float(first["serving/output_tok_s_min"]) <= float(first["serving/output_tok_s"])
    assert first["serving/output_tok_s_per_gpu"] == pytest.approx(float(first["serving/output_tok_s"]) / 8)
    assert not [name for row in rows for name in row if name.startswith("perf/")]


def test_a_percentile_that_falls_on_failed_requests_is_sent_nowhere(tmp_path: Path) -> None:
    settings = config(perf=MIXED, evals=[], publish={"sinks": ["wandb"]})
    builder = serving_ledger(settings, run=lambda unit, run: failing(run, [60, 61, 62, 63]))
    run = _run(builder.write(tmp_path / "run"))
    assert "serving/ttft_p50_ms" in run.history[0].values
    assert not [row for row in run.history if "serving/ttft_p99_ms" in row.values]
    assert "serving/users/c6/e2e_p99_s" not in run.summary
    assert "serving/users/c6/e2e_p50_s" in run.summary
    loads = next(table for table in run.tables if table.name == "tables/loads")
    cells = dict(zip(loads.columns, loads.rows[0], strict=True))
    assert cells["ttft_p99_ms"] is None
    assert cells["ttft_p50_ms"] == pytest.approx(60, rel=0.01)


def test_the_summary_is_flat(tmp_path: Path) -> None:
    summary = _run(_builder().write(tmp_path / "run")).summary
    assert summary["serving/users/c6/ttft_p50_ms"] == pytest.approx(60, rel=0.01)
    assert summary["serving/rates/r3/tpot_p99_ms"] == pytest.approx(12, rel=0.01)
    assert summary["serving/users/c6/findings"] == ""
    assert summary["serving/users/c8/on_front"] is False
    assert summary["serving/users/c6/output_cost_per_1m_tokens"] > 0
    assert summary["search/limit/ended"] is True
    assert float(summary["search/limit/found"]) < float(summary["search/limit/broke_at"])
    assert summary["search/limit/probes"] >= 4
    assert all("." not in name for name in summary)


def test_a_longer_ledger_only_adds_rows(tmp_path: Path) -> None:
    builder = _builder()
    whole = _run(builder.write(tmp_path / "whole")).history
    done = [number for number, record in enumerate(builder.records) if record.kind == "unit_done"]
    builder.records = builder.records[: done[3] + 1]
    part = _run(builder.write(tmp_path / "part")).history
    assert len(part) == 2
    assert part == whole[:2]


def test_parquet_holds_serving_loads_in_a_table_of_their_own(tmp_path: Path) -> None:
    folder = _builder("parquet").write(tmp_path / "run")
    told = publish(folder, {}, sink="parquet")
    assert told.ok, told.text
    (path,) = (folder / "history" / "loads").glob("*.parquet")
    frame = pd.read_parquet(path)
    assert sorted(zip(frame["target"], frame["sweep"], frame["x"], strict=True)) == [
        (target, *point) for target in ("alpha", "beta")
        for point in (("rates", 3.0), ("rates", 6.0), ("users", 6.0), ("users", 8.0))
    ]  # fmt: skip
    assert {"ttft_p99_ms", "good_fraction", "plan_hash", "validity"} <= set(frame.columns)
    (empty,) = (folder / "history" / "points").glob("*.parquet")
    assert len(pd.read_parquet(empty)) == 0


def test_the_service_holds_every_row_once(tmp_path: Path, service: WandbService) -> None:
    folder = _builder().write(tmp_path / "run")
    for _ in range(2):
        told = publish(folder, access(service))
        assert told.ok, told.text
    for run in target_runs(read_source(folder), "hashed"):
        there = service.named(run.id)
        rows = [row for row in there.history if "serving/x" in row]
        assert [(row["_step"], row["serving/x"]) for row in rows] == [
            (row.step, row.values["serving/x"]) for row in run.history
        ]
