"""Serving sweeps in a configuration: spellings, defaults, and one message for every mistake."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from raybench.config.read import load
from raybench.config.schema import RunConfig
from raybench.config.serving import ClosedSweep, OpenSweep, SloSearch
from raybench.errors import ConfigError
from raybench.evals.rows import rows_of
from raybench.load.traces import traces_of
from raybench.plan.expand import expand
from raybench.plan.serving import Files
from raybench.records import CheckUnit, LoadUnit
from raybench.records.loads import ClosedLoad, TraceLoad, UniformLength

HEAD = """\
name: study
model: {path: some/model}
targets:
  - name: a
    accelerator: CPU
    engine: {kind: simulated, simulated: {prefill_tok_per_s: {1: 1000}, itl_ms: {1: 10}}}
perf:
"""


def read(tmp_path: Path, entry: str) -> RunConfig:
    file = tmp_path / "study.yaml"
    file.write_text(HEAD + entry)
    return load(file)


def test_all_kinds_of_load_are_told_apart_by_their_tag(tmp_path: Path) -> None:
    config = read(tmp_path, """\
  - {batch_sizes: [1, 2], input_tokens: 8, output_tokens: 4}
  - {load: closed, concurrency: [1, 4], input_tokens: 8, output_tokens: 4}
  - {load: open, rates: [1, 2.5], arrivals: gamma, burstiness: 0.5, input_tokens: 8,
     output_tokens: {distribution: uniform, min: 2, max: 9}, slo: {ttft_ms: 100}}
  - {load: ramp, start_rate: 0, end_rate: 5, input_tokens: 8, output_tokens: 4}
  - {load: sessions, concurrency: [2], turns: 3, input_tokens: 8, output_tokens: 4, think_s: 1, system_tokens: 9}
  - {load: slo_search, over: concurrency, start: 4, min: 1, max: 64, input_tokens: 8, output_tokens: 4,
     slo: {tpot_ms: 20}}
""")  # fmt: skip
    assert [sweep.load for sweep in config.perf] == ["one_batch", "closed", "open", "ramp", "sessions", "slo_search"]
    assert [sweep.name for sweep in config.perf] == ["one-batch", "closed", "open", "ramp", "sessions", "slo-search"]
    assert len(config.batch_sweeps) == 1
    closed, opened = config.perf[1], config.perf[2]
    assert isinstance(closed, ClosedSweep)
    assert (closed.jitter_fraction, closed.turnovers, closed.repeats) == (0.2, 8, 1)
    assert isinstance(opened, OpenSweep)
    assert opened.output_tokens == UniformLength(distribution="uniform", min=2, max=9)
    search = config.perf[5]
    assert isinstance(search, SloSearch)
    assert search.slo.share == 0.99
    # What was written down reads back the same.
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{load: closd, concurrency: [1]}", "found 'closd'; did you mean 'closed'?"),
        ("{load: closed, concurrency: [1, 1], input_tokens: 8, output_tokens: 4}", "must be distinct"),
        ("{load: closed, concurrency: [], input_tokens: 8, output_tokens: 4}", "concurrency: expected a list"),
        ("{load: closed, concurrency: [1], input_tokens: 8}", "perf.0.output_tokens: this key is missing"),
        ("{load: closed, concurency: [1], input_tokens: 8, output_tokens: 4}", "did you mean 'concurrency'?"),
        ("{load: open, rates: [0], input_tokens: 8, output_tokens: 4}", "rates.0: expected a number above 0"),
        ("{load: open, rates: [1], burstiness: 2, input_tokens: 8, output_tokens: 4}", "belongs to arrivals: gamma"),
        ("{load: open, rates: [1], input_tokens: 8, output_tokens: {distribution: uniform, min: 9, max: 2}}",
         "min (9) must not be above max (2)"),
        ("{load: open, rates: [1], input_tokens: 8, output_tokens: 4, slo: {share: 0.9}}", "needs at least one of"),
        ("{load: slo_search, over: rate, start: 9, min: 1, max: 8, input_tokens: 8, output_tokens: 4, "
         "slo: {ttft_ms: 1}}", "must lie between min (1) and max (8)"),
        ("{load: slo_search, over: concurrency, start: 1.5, min: 1, max: 8, input_tokens: 8, output_tokens: 4, "
         "slo: {ttft_ms: 1}}", "whole numbers"),
        ("{load: slo_search, over: rate, start: 2, min: 1, max: 8, repeats: 2, input_tokens: 8, output_tokens: 4, "
         "slo: {ttft_ms: 1}}", "made once"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"  - {entry}\n")
    assert words in str(caught.value)
    assert "study.yaml:8" in str(caught.value)


def test_points_are_units_with_keys_of_their_own_and_common_arrivals(tmp_path: Path) -> None:
    entry = "  - {load: closed, concurrency: [1, 4, 16], repeats: 2, launches: 2, input_tokens: 8, output_tokens: 4}\n"
    units = [unit for unit in expand(read(tmp_path, entry), {}).units if isinstance(unit, LoadUnit)]
    assert len(units) == len({unit.key for unit in units}) == len({unit.prompt_seed for unit in units}) == 12
    assert len({unit.arrival_seed for unit in units}) == 4
    orders = {
        tuple(u.load.concurrency for u in units[i : i + 3] if isinstance(u.load, ClosedLoad)) for i in (0, 3, 6, 9)
    }
    assert len(orders) > 1


def test_keys_hold_what_is_measured_and_nothing_that_judges_it(tmp_path: Path) -> None:
    def key(more: str) -> str:
        entry = f"  - {{load: open, rates: [2], input_tokens: 8, output_tokens: 4{more}}}\n"
        (unit,) = expand(read(tmp_path, entry), {}).units
        return unit.key

    base = key("")
    assert key(", slo: {ttft_ms: 5}") == key(", timeout_s: 5") == base
    assert len({base, key(", duration_s: 5"), key(", arrivals: constant"), key(", route: chat")}) == 4


def test_a_trace_is_read_on_the_machine_of_the_driver(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"at_s": 1, "input_tokens": 5, "output_tokens": 6}\n' * 3)
    config = read(tmp_path, f"  - {{load: trace, path: {trace}, speeds: [1, 2], max_requests: 2}}\n")
    units = expand(config, {}, Files(traces_of(config.trace_sweeps))).units
    loads: list[JsonValue] = [
        unit.load.speed for unit in units if isinstance(unit, LoadUnit) and isinstance(unit.load, TraceLoad)
    ]
    assert sorted(map(str, loads)) == ["1.0", "2.0"]
    assert all(isinstance(u, LoadUnit) and isinstance(u.load, TraceLoad) and len(u.load.at_s) == 2 for u in units)


def test_serving_loads_stand_beside_batches_and_evals(tmp_path: Path) -> None:
    entries = """\
  - {batch_sizes: [1, 2], input_tokens: 8, output_tokens: 4}
  - {load: closed, concurrency: [1, 4], input_tokens: 8, output_tokens: 4}
evals:
  - {name: sums, sampling: {temperature: 0, max_tokens: 64}}
"""
    config = read(tmp_path, entries)
    units = expand(config, rows_of(config.evals)).units
    assert {unit.kind for unit in units} == {"perf", "load", "check", "eval"}
    decode = next(unit for unit in units if isinstance(unit, CheckUnit) and unit.check == "decode")
    assert decode.batch_size == 4
