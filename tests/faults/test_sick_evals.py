"""Faults that ruin a score, played by simulated engines through the whole command: each ends with its own named cause.

One run, one fault a target: starting Ray takes longer than answering.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runs import assert_each_attempt_ended_once, cli_run, finished, kill, of_kind, records

from raybench.config.reference_file import save_references
from raybench.engine.leftovers import left_overs
from raybench.ledger.journal import read
from raybench.ledger.view import fold
from raybench.report.references import measured_references
from raybench.report.write import read_report

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TIMING: dict[str, object] = {
    "prefill_tok_per_s": {1: 30000}, "itl_ms": {1: 8}, "startup_s": 0, "time_scale": 1000, "accuracy": {"aime25": 1.0},
    "reply_tokens": {"aime25": 300},
}  # fmt: skip
FAULTS: dict[str, dict[str, object]] = {
    # The first target has the nodes n0 and n1.
    "prompt": {"faults": {"system_prompt_tokens": 40, "on_nodes": ["n1"]}},
    "bold": {"faults": {"answer_form": "bold"}},
    "long": {"reply_tokens": {"aime25": 2800}},
    "loops": {"faults": {"loop_fraction": 0.5}},
    "prose": {"faults": {"answer_form": "prose"}},
    "same": {"faults": {"ignore_seed": True}},
    "mute": {"faults": {"http_error_burst": [1, 1000]}},
    # After the 61 requests of the preflight.
    "burst": {"faults": {"http_error_burst": [62, 1000]}},
    "dead": {"faults": {"die_after_requests": 1}},
}
CAUSES = {
    "prompt": "prompt", "long": "max_tokens", "loops": "loops", "prose": "format", "same": "identical_repeats",
    "mute": "transport", "burst": "transport", "dead": "engine_lost",
}  # fmt: skip
STOPPED = {"long": "stop_truncated", "loops": "stop_truncated", "prose": "stop_unparsed", "burst": "stop_errored"}


def _target(name: str, fault: dict[str, object]) -> dict[str, object]:
    engine = {"kind": "simulated", "simulated": TIMING | fault}
    return {"name": name, "accelerator": "CPU", "nodes": 2 if name == "prompt" else 1, "engine": engine}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cluster: str) -> Iterator[tuple[Path, dict[str, Any], int]]:
    """(run folder, report, exit code) of all faults."""
    folder = tmp_path_factory.mktemp("sick")
    content = {
        "name": "sick", "model": {"path": "owner/simulated-model"},
        "targets": [_target(name, fault) for name, fault in FAULTS.items()],
        "engine": {"kind": "simulated", "simulated": TIMING},
        "evals": [
            {"name": "aime25", "rows": "synthetic", "sampling": {"temperature": 0.7, "max_tokens": 2048}, "repeats": 2,
             "baseline": 0.9, "gate": "published", "concurrency": 30, "block_size": 30}
        ],
        "publish": {"wandb": {"mode": "disabled"}},
    }  # fmt: skip
    path = folder / "sick.yaml"
    path.write_text(yaml.safe_dump(content))
    code, output = finished(folder / "out", str(path), "--out", str(folder / "out"), "--address", cluster)
    assert "Traceback" not in output, output
    yield folder / "out", json.loads((folder / "out" / "report.json").read_text()), code


def _row(report: dict[str, Any], target: str) -> dict[str, Any]:
    [row] = [row for row in report["evals"] if row["target"] == target]
    return row


@pytest.mark.parametrize("target", CAUSES)
def test_each_fault_has_its_own_named_cause(run: tuple[Path, dict[str, Any], int], target: str) -> None:
    _, report, _ = run
    found = {diagnosis["target"]: diagnosis["cause"] for diagnosis in report["diagnoses"]}
    assert found[target] == CAUSES[target], report["diagnoses"]


def test_bold_answers_are_graded_right_and_named_nothing(run: tuple[Path, dict[str, Any], int]) -> None:
    _, report, _ = run
    row = _row(report, "bold")
    assert (row["accuracy"]["score"], row["findings"]) == (1.0, [])
    assert "bold" not in {diagnosis["target"] for diagnosis in report["diagnoses"]}
    assert row["accuracy"]["gate"]["verdict"] == "PASS"


@pytest.mark.parametrize("target", STOPPED)
def test_what_cannot_be_scored_is_stopped_and_gets_no_verdict(
    run: tuple[Path, dict[str, Any], int], target: str
) -> None:
    folder, report, _ = run
    [decision] = [
        r["body"]
        for r in of_kind(records(folder), "decision")
        if r["body"].get("rule") and r["body"]["target"] == target
    ]
    assert decision["rule"] == STOPPED[target]
    row = _row(report, target)
    assert row["accuracy"]["num_samples"] == 30, "the second half was never asked"
    gate = row["accuracy"]["gate"]
    # Without a single answer there is not even a score to hold against anything.
    assert (gate is None) if target == "burst" else (gate["verdict"] == "INVALID")
    assert "stopped_by_rule" in row["findings"]


def test_the_whole_is_invalid_and_every_page_names_the_causes(run: tuple[Path, dict[str, Any], int]) -> None:
    folder, report, code = run
    assert report["verdict"] == "INVALID"
    assert code == 23, "the dead engine goes first"
    page = (folder / "report.md").read_text()
    assert "## Diagnosis" in page and "### Score by limit of the replies" in page
    assert "max_tokens 2,048 is below what this eval needs" in page
    assert_each_attempt_ended_once(records(folder))


# ------------------------------------------------------------------------------------------------------------ must show


def _aime_like(folder: Path, seed: int, **changes: object) -> Path:
    """30 questions, 16 repeats, 4 nodes, a true score of 70.3% with hard and easy questions among them."""
    exam = {
        "accuracy": {"aime25": 0.703}, "settled_fraction": 0.57, "reply_tokens": {"aime25": 5000},
        "itl_ms": {1: 8, 64: 16}, "time_scale": 500,
    }  # fmt: skip
    settings: dict[str, object] = {
        "name": "aime25", "rows": "synthetic", "repeats": 16, "baseline": 0.703, "concurrency": 40, "block_size": 40,
        "sampling": {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_tokens": 16384},
    }  # fmt: skip
    content = {
        "name": f"exam-{seed}", "seed": seed, "model": {"path": "owner/simulated-model"},
        "targets": [{"name": "one", "accelerator": "CPU", "nodes": 4}],
        "engine": {"kind": "simulated", "simulated": TIMING | exam},
        "evals": [settings | changes], "publish": {"wandb": {"mode": "disabled"}},
    }  # fmt: skip
    path = folder / f"exam-{seed}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _told(folder: Path) -> dict[str, Any]:
    """What must not depend on which nodes answered: replies by sample, and the score."""
    found = of_kind(records(folder), "sample")
    assert len(found) == len({record["key"] for record in found}) == 480
    report = json.loads((folder / "report.json").read_text())
    [row] = report["evals"]
    return {
        "replies": {r["key"]: (r["body"]["reply"], r["body"]["finish_reason"], r["body"]["gold"]) for r in found},
        "accuracy": row["accuracy"], "verdict": report["verdict"], "diagnoses": report["diagnoses"],
        "counterfactuals": report["counterfactuals"],
    }  # fmt: skip


def test_an_exam_on_four_nodes_passes_and_comes_to_the_same_when_one_is_killed_midway(
    tmp_path: Path, cluster: str
) -> None:
    whole, killed, accepted = tmp_path / "whole", tmp_path / "killed", tmp_path / "accepted"
    first = _aime_like(tmp_path, seed=1, block_size=120)
    assert finished(accepted, str(first), "--out", str(accepted), "--address", cluster)[0] == 0
    save_references(tmp_path / "accepted.yaml", measured_references(fold(read(accepted)), read_report(accepted), None))
    path = _aime_like(tmp_path, seed=0, reference="accepted.yaml")
    code, output = finished(whole, str(path), "--out", str(whole), "--address", cluster)
    assert code == 0, output
    told = _told(whole)
    assert (told["verdict"], told["accuracy"]["gate"]["verdict"], told["diagnoses"]) == ("VALID", "PASS", [])
    assert told["accuracy"]["counts"]["truncated"] == 0
    nodes = [record["node"] for record in of_kind(records(whole), "sample")]
    assert len(set(nodes)) == 4, nodes
    [curve] = told["counterfactuals"]
    scores = [point["score"] for point in curve["points"]]
    assert scores == sorted(scores) and scores[1] == 0.0 and scores[-1] == told["accuracy"]["score"]

    with cli_run(killed, str(path), "--out", str(killed), "--address", cluster) as run:
        run.until(lambda: len(of_kind(run.records(), "sample")) >= 50)
        kill(_worker_of_a_node(run.run_id))
        assert run.wait() == 0, run.output()
    found = records(killed)
    assert_each_attempt_ended_once(found)
    assert [r["body"]["what"] for r in of_kind(found, "decision")].count("node_lost") == 1
    assert {r["body"]["cause"] for r in of_kind(found, "unit_failed")} <= {"node_lost"}
    # The same samples, replies and scores, whichever nodes they came from.
    assert _told(killed) == told


def _worker_of_a_node(run_id: str) -> int:
    """The Ray worker behind one of the servers."""
    servers = [x.pid for x in left_overs(run_id) if "simulated_server" in Path(f"/proc/{x.pid}/cmdline").read_text()]
    return int(Path(f"/proc/{servers[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
