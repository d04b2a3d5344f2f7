"""What cannot work is one clear message, the right exit code, no stray process, and nothing lost."""

import resource
import shutil
import sys

import pytest
from cli_runs import assert_each_attempt_ended_once, cli_run, finished, of_kind, records, results, survivors

import raybench.cli


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """`raybench run WORDS` in this process: (exit code, what was written to stderr)."""
    monkeypatch.setattr(sys, "argv", ["raybench", "run", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        raybench.cli.main()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert isinstance(end.value.code, int)
    return end.value.code, captured.err


def test_a_target_that_is_not_there(tmp_path, config, monkeypatch, capsys) -> None:
    code, said = refused(monkeypatch, capsys, config(), "--target", "two", "--out", tmp_path / "out")
    assert (code, "--target two: known targets are one" in said) == (10, True)


def test_out_and_resume_together(tmp_path, config, monkeypatch, capsys) -> None:
    code, _ = refused(monkeypatch, capsys, config(), "--out", tmp_path, "--resume", tmp_path)
    assert code == 2


@pytest.mark.parametrize(
    ("address", "words"), [("ray://127.0.0.1:10001", "ray job submit"), ("127.0.0.1:1", "no Ray cluster answers at")]
)
def test_a_cluster_that_cannot_be_had(address, words, tmp_path, config, monkeypatch, capsys) -> None:
    code, said = refused(monkeypatch, capsys, config(), "--out", tmp_path / "out", "--address", address)
    assert (code, words in said) == (20, True)
    assert not (tmp_path / "out" / "ledger.jsonl").exists(), "the folder can be used again"


def test_rows_without_the_column_that_the_eval_needs(tmp_path, config, monkeypatch, capsys) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"problem": "1 + 1"}\n')
    evals = [{"name": "aime25", "rows": str(rows), "sampling": {"temperature": 0, "max_tokens": 8}}]
    code, said = refused(monkeypatch, capsys, config(evals=evals), "--out", tmp_path / "out")
    assert (code, "answer" in said) == (12, True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.touch(), (26, "is a file, not a folder")),
        (lambda folder: folder.symlink_to("/proc"), (26, "cannot write the run folder")),
        (lambda folder: (folder.mkdir(), (folder / "ledger.jsonl").touch()), (13, "already holds a ledger")),
    ],
)
def test_a_run_folder_that_cannot_be_used(make, said, tmp_path, config, monkeypatch, capsys) -> None:
    make(tmp_path / "out")
    code, message = refused(monkeypatch, capsys, config(), "--out", tmp_path / "out")
    assert (code, said[1] in message) == (said[0], True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no ledger.jsonl"),
        (b"", "no whole record"),
        (b'{"v":1,"seq":0,"t":0,"kind":"plan","body":{}}\n', "does not start with a run record"),
        (b'{"v":99,"seq":0}\n', "ledger version 99"),
        (b"\x00\xff\n", "not JSON"),
    ],
)
def test_a_folder_that_is_no_run(content, words, tmp_path, config, monkeypatch, capsys) -> None:
    if content is not None:
        (tmp_path / "ledger.jsonl").write_bytes(content)
    code, said = refused(monkeypatch, capsys, config(), "--resume", tmp_path)
    assert (code, words in said) == (13, True)


@pytest.mark.ray
def test_demands_that_the_cluster_cannot_meet_are_a_table(tmp_path, cluster, config) -> None:
    targets = [{"name": "h200", "accelerator": "H200", "nodes": 2, "gpus_per_node": 8}]
    path = config(targets=targets, engine={"kind": "sglang"})
    code, output = finished(tmp_path / "out", str(path), "--out", str(tmp_path / "out"), "--address", cluster)
    assert code == 20
    assert "H200: 2 machine(s) with 8 GPU(s) asked (targets h200), 0 in the cluster" in output
    assert "machines that are there:" in output
    assert "Traceback" not in output
    assert not (tmp_path / "out" / "ledger.jsonl").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_an_engine_that_dies_during_its_start_and_a_plan_that_changed(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    words = ["--address", cluster]
    path = config(timing={"faults": {"refuse_start": True}})
    with cli_run(out, str(path), "--out", str(out), *words) as run:
        assert run.wait() == 22, run.output()
        assert not survivors(run.run_id)
        output = run.output()
    assert "this engine refuses to start" in output
    assert "Traceback" not in output
    failures = of_kind(records(out), "decision")
    assert [r["body"]["what"] for r in failures].count("engine_start_failed") == 2, "it was tried twice"
    found = records(out)
    assert {r["body"]["cause"] for r in of_kind(found, "unit_failed")} == {"engine_start"}

    other = config(name="other", perf=[{"batch_sizes": [1, 5], "input_tokens": 64, "output_tokens": 32, "repeats": 2}])
    code, output = finished(out, str(other), "--resume", str(out), *words)
    assert code == 11
    assert "perf.0.batch_sizes: [1, 2, 3] -> [1, 5]" in output
    assert "of its 7 units are gone and" in output
    assert "Traceback" not in output
    assert records(out) == found, "nothing was written"

    # What was given up is tried again, and a setting that changes no measurement may change.
    code, output = finished(out, str(path), "--resume", str(out), "--set", "name=renamed", *words)
    assert code == 22, output
    assert_each_attempt_ended_once(records(out))


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_folder_that_fills_up_keeps_what_it_holds(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    words = [str(config()), "--address", cluster]
    with cli_run(out, *words, "--out", str(out)) as run:
        run.until_done(2)
        # From here on the ledger can grow by 700 bytes: the write that crosses the limit is torn in the middle.
        limit = (out / "ledger.jsonl").stat().st_size + 700
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (limit, limit))
        assert run.wait() == 26, run.output()
        assert not survivors(run.run_id)
        output = run.output()
    assert f"finish with --resume {out}" in output
    assert "Traceback" not in output
    kept = records(out)
    assert len(results(kept)) >= 2
    saved = tmp_path / "saved"
    shutil.copytree(out, saved)
    code, output = finished(out, *words, "--resume", str(out))
    assert code == 0, output
    assert records(out)[: len(kept)] == kept
    assert_each_attempt_ended_once(records(out))


@pytest.mark.ray
@pytest.mark.slow
def test_two_drivers_cannot_write_one_run_folder(tmp_path, cluster, config, monkeypatch, capsys) -> None:
    out = tmp_path / "out"
    words = [str(config()), "--address", cluster]
    with cli_run(out, *words, "--out", str(out)) as run:
        run.until_done(1)
        code, said = refused(monkeypatch, capsys, *words, "--resume", out)
        assert (code, "is being written by another raybench" in said) == (13, True)
        assert run.wait() == 0, run.output()
    assert_each_attempt_ended_once(records(out))


@pytest.mark.ray
def test_an_external_engine_that_is_not_there(tmp_path, cluster, config) -> None:
    path = config(engine={"kind": "external", "url": "http://127.0.0.1:9"})
    code, output = finished(tmp_path / "out", str(path), "--out", str(tmp_path / "out"), "--address", cluster)
    assert code == 22
    assert "No engine answers at http://127.0.0.1:9" in output
    assert "Traceback" not in output
