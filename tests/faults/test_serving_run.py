"""Serving loads through the whole command: a search whose driver is killed goes on with its next probe."""

import json
import signal

import pytest
from cli_runs import (
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    finished,
    of_kind,
    records,
    results,
)
from simulated_engines import running, timing

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PERF = [
    {"load": "closed", "name": "users", "concurrency": [2], "input_tokens": 40, "output_tokens": 20, "turnovers": 6},
    {
        "load": "slo_search", "name": "limit", "over": "concurrency", "start": 2, "min": 1, "max": 8,
        "input_tokens": 40, "output_tokens": 20, "min_requests": 10, "slo": {"ttft_ms": 600_000, "share": 0.5},
    },
]  # fmt: skip


def test_a_search_is_resumed_and_nothing_is_measured_twice(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    words = [str(config(perf=PERF, evals=[])), "--address", cluster]
    with cli_run(out, *words, "--out", str(out)) as run:
        # Every value keeps this SLO: 2, 4, 8, and 8 again with other arrivals.
        run.until(lambda: len(results(run.records())) >= 2)
        run.send(signal.SIGKILL)
        run.wait()
        run_id = run.run_id
    before = {record["key"] for record in results(records(out))}
    code, output = finished(out, *words, "--resume", str(out))
    found = records(out)
    assert_each_attempt_ended_once(found)
    assert_none_survives(run_id)
    done = [record["key"] for record in results(found)]
    assert len(done) == len(set(done)) == 5
    assert before < set(done)
    ends = [r["body"] for r in of_kind(found, "decision") if r["body"]["what"] == "search_end"]
    assert [end["numbers"]["found"] for end in ends] == [8]
    report = json.loads((out / "report.json").read_text())
    assert report["searches"][0]["found"] == 8
    assert [probe["role"] for probe in report["searches"][0]["probes"]] == ["bracket", "bracket", "bracket", "confirm"]
    assert len(report["serving"]) == 1
    for record in results(found):
        assert (out / "requests" / f"{record['key']}.parquet").is_file()
        assert record["body"]["figures"]["statuses"].keys() == {"ok"}
    # On a busy machine the client may be late, which is red; nothing is missing either way.
    assert code in (0, 30), output
    assert "limit" in output


def test_loads_on_an_engine_that_is_not_simulated_are_calibrated_and_the_record_outlives_the_session(
    tmp_path, cluster, config
) -> None:
    out = tmp_path / "out"
    with running(tmp_path, timing()) as (server, _):
        # The endpoint says nothing of what it is: to this run it is somebody's server.
        engine = {"kind": "external", "url": server.url}
        perf = [PERF[0] | {"concurrency": [2, 3, 5], "turnovers": 8}]
        words = [str(config(perf=perf, evals=[], engine=engine)), "--address", cluster]
        with cli_run(out, *words, "--out", str(out)) as run:
            run.until(lambda: len(results(run.records())) >= 2)
            run.send(signal.SIGKILL)
            run.wait()
        before = of_kind(records(out), "calibration")
        code, output = finished(out, *words, "--resume", str(out))
    found = records(out)
    # Two and three streams are held against the measurement at 4, five against that at 16, once each.
    levels = [record["body"]["points"][0]["streams"] for record in of_kind(found, "calibration")]
    assert sorted(levels) == [4, 16]
    assert of_kind(found, "calibration")[: len(before)] == before
    assert len(before) >= 1
    assert len(results(found)) == 3
    report = json.loads((out / "report.json").read_text())
    assert all(row["runs"][0]["calibration"]["points"] for row in report["serving"])
    assert "not_calibrated" not in {finding["code"] for finding in report["findings"]}
    assert "The client's own error on one, at most: TTFT" in output
    assert code in (0, 30), output
