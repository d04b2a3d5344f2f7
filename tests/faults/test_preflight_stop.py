"""A run whose preflight says stop: no sample is asked, everything else is measured, and the report says why."""

import json
from typing import get_args

import pytest
from cli_runs import assert_each_attempt_ended_once, checks, finished, of_kind, records, results

from raybench.records import Check

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CANARIES_FAIL = {"accuracy": {"sums": 1.0, "canary": 0.5}}


def test_a_stop_keeps_samples_from_being_asked_and_lets_the_sweep_run(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    code, output = finished(out, str(config(timing=CANARIES_FAIL)), "--out", str(out), "--address", cluster)
    assert code == 30, output
    found = records(out)
    assert_each_attempt_ended_once(found)
    assert of_kind(found, "sample") == []
    assert {record["body"]["kind"] for record in results(found)} == {"perf"}
    assert len(results(found)) == 6
    (given_up,) = of_kind(found, "unit_failed")
    assert (given_up["body"]["cause"], given_up["body"]["given_up"]) == ("preflight", True)
    assert given_up["body"]["message"].startswith("preflight: ")
    assert "preflight canary: stop" in output
    report = json.loads((out / "report.json").read_text())
    assert (report["verdict"], [finding["code"] for finding in report["findings"] if finding["severity"] == "red"]) == (
        "INVALID", ["canary_failed"]
    )  # fmt: skip
    # All were made, each with its node and its start: a report shows every fault at once.
    made = {record["body"]["check"]: (record["node"], record["launch"]) for record in checks(found)}
    assert made == dict.fromkeys(get_args(Check), ("n0", "n0.0"))


def test_a_preflight_that_may_not_stop_only_tells(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    path = config(timing=CANARIES_FAIL, perf=None, preflight={"stop": False})
    code, output = finished(out, str(path), "--out", str(out), "--address", cluster)
    assert code == 30, output
    found = records(out)
    assert len(of_kind(found, "sample")) == 16
    started = [record["key"] for record in of_kind(found, "unit_started")]
    assert started[-1] == results(found)[0]["key"], "every check comes before the first sample"
    assert len(started) == len(get_args(Check)) + 1


def test_a_sound_run_is_valid_with_its_checks_and_resumes_without_new_ones(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    words = [str(config(perf=None)), "--address", cluster]
    code, output = finished(out, *words, "--out", str(out))
    assert code == 0, output
    found = records(out)
    assert [record["body"]["result"] for record in checks(found)] == ["ok"] * len(get_args(Check))
    assert "## Preflight" in (out / "report.md").read_text()
    assert finished(out, *words, "--resume", str(out))[0] == 0
    assert len(records(out)) == len(found)
