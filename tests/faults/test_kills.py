"""What dies is redone, what was done is not, and nothing is left running."""

import os
import signal
from pathlib import Path

import pytest
from cli_runs import (
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    finished,
    kill,
    num_prompts,
    of_kind,
    records,
    results,
    survivors,
)
from simulated_engines import request, running, timing

from raybench.engine.leftovers import left_overs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_UNITS = 7
NUM_SAMPLES = 16


def prompts_served(url: str) -> int:
    """The server's own count."""
    _, text = request(url, "GET", "/metrics")
    line = next(line for line in text.decode().splitlines() if line.startswith("sglang:num_requests_total"))
    return int(float(line.rpartition(" ")[2]))


def marked(run_id: str, words: str) -> int:
    """One process of the run whose command line holds the words."""
    for left in left_overs(run_id):
        if words in Path(f"/proc/{left.pid}/cmdline").read_text():
            return left.pid
    raise AssertionError(f"no {words} among {survivors(run_id)}")


def test_a_driver_that_is_killed_twice_repeats_nothing_by_the_servers_own_count(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    model = timing(itl_ms={1: 5.0}, reply_tokens={"sums": 60})
    with running(tmp_path / "server", model) as (server, _):
        # It knows no answers, so that its canaries would keep the samples from being asked.
        path = config(engine={"kind": "external", "url": server.url}, preflight={"enabled": False})
        words = [str(path), "--address", cluster]
        kill_when = [
            lambda found: len(results(found)) == 2,
            lambda found: len(of_kind(found, "sample")) >= 4,
        ]
        seen = 0
        for session, is_time in enumerate(kill_when):
            folder = ["--resume", str(out)] if session else ["--out", str(out)]
            served = prompts_served(server.url)
            with cli_run(out, *words, *folder) as run:
                run.until(lambda is_time=is_time, run=run: is_time(run.records()))
                run.send(signal.SIGKILL)
                assert run.wait() == -signal.SIGKILL
                assert_none_survives(run.run_id)
            found = records(out)
            extra = prompts_served(server.url) - served - num_prompts(found[seen:])
            # What was under way: passes of one perf unit (at most 6 of 3 prompts), or 2 chats and 2 not yet written.
            assert 0 <= extra <= 18
            seen = len(found)
        # A writer that is killed within a line leaves half of it.
        with (out / "ledger.jsonl").open("ab") as ledger:
            ledger.write(b'{"v":1,"seq":')
        served = prompts_served(server.url)
        code, output = finished(out, *words, "--resume", str(out))
        assert code in (0, 32), output  # the stand-in server knows no answers
        found = records(out)
        assert prompts_served(server.url) - served == num_prompts(found[seen:])
    assert_each_attempt_ended_once(found)
    assert len({r["key"] for r in results(found)}) == len(results(found)) == NUM_UNITS
    assert len(of_kind(found, "sample")) == NUM_SAMPLES
    assert len(of_kind(found, "plan")) == 1
    assert [r["body"]["session"] for r in of_kind(found, "run")] == [0, 1, 2]
    assert finished(out, *words, "--resume", str(out))[0] == code, "a run that is whole resumes to the same end"
    assert len(records(out)) == len(found)


def test_a_killed_worker_and_a_killed_server_are_replaced_and_their_units_redone(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    with cli_run(out, str(config()), "--out", str(out), "--address", cluster) as run:
        run.until_done(1)
        server = marked(run.run_id, "simulated_server")
        worker = int(Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[1])
        kill(worker)
        run.until_done(3)
        assert not Path(f"/proc/{server}").exists(), "the server of the killed worker lives on"
        kill(marked(run.run_id, "simulated_server"))
        assert run.wait() == 0, run.output()
        assert_none_survives(run.run_id)
        found, output = run.records(), run.output()
    assert_each_attempt_ended_once(found)
    assert len(results(found)) == NUM_UNITS
    assert max(r["attempt"] for r in results(found)) >= 2
    causes = [r["body"]["cause"] for r in of_kind(found, "unit_failed")]
    # A point that only waited behind the one that failed was withdrawn: it never began.
    causes = [cause for cause in causes if cause != "withdrawn"]
    assert causes in (["node_lost", "engine_died"], ["engine_died"]), "the worker may have been between two units"
    assert [r["body"]["what"] for r in of_kind(found, "decision")].count("node_lost") == 1
    assert [r["launch"] for r in of_kind(found, "engine")] == ["n0.0", "n1.0", "n1.1"]
    assert "n0 lost" in output
    assert "failed (engine_died): the simulated engine ended with code -9" in output
    assert "An engine died while it was measured" in output
    assert "Traceback" not in output


def test_a_lost_machine_ends_the_run_with_a_message_and_keeps_what_was_done(tmp_path, config) -> None:
    out = tmp_path / "out"
    path = str(config())
    with cli_run(out, path, "--out", str(out), "--address", "local") as run:
        run.until_done(1)
        kill(run.children("raylet/raylet")[0])
        assert_none_survives(run.run_id)
        assert run.wait() == 24, run.output()
        output = run.output()
    assert "no node for one: " in output
    assert f"finish what is missing with: raybench run {path} --resume {out}" in output
    assert "Traceback" not in output
    found = records(out)
    assert_each_attempt_ended_once(found)
    assert results(found)
    assert [r["body"]["what"] for r in of_kind(found, "decision")].count("slot_lost") == 1
    given_up = [r["body"] for r in of_kind(found, "unit_failed") if r["body"].get("given_up")]
    assert {body["cause"] for body in given_up} == {"node_lost"}
    assert len(given_up) + len(results(found)) == NUM_UNITS


def test_signals_end_a_run_in_order_and_it_resumes(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    words = [str(config()), "--address", cluster]
    with cli_run(out, *words, "--out", str(out)) as run:
        run.until_done(1)
        run.ctrl_c()
        assert run.wait() == 130, run.output()
        assert not survivors(run.run_id), "all is gone before the command ends"
        assert f"--resume {out}" in run.output().splitlines()[-1]
        assert (out / "report.md").is_file()
    with cli_run(out, *words, "--resume", str(out)) as run:
        run.until(lambda: len(of_kind(run.records(), "sample")) >= 2)
        run.send(signal.SIGTERM)
        assert run.wait() == 143, run.output()
        assert not survivors(run.run_id)
    assert_each_attempt_ended_once(records(out))
    interrupted = [r["body"] for r in of_kind(records(out), "decision") if r["body"]["what"] == "interrupted"]
    assert [body["reason"] for body in interrupted] == ["exit 130", "exit 143"]
    assert all(body["numbers"]["given_up"] == 0 for body in interrupted)
    code, output = finished(out, *words, "--resume", str(out))
    assert code == 0, output
    assert_each_attempt_ended_once(records(out))
    assert len(of_kind(records(out), "sample")) == NUM_SAMPLES


def test_ctrl_c_ends_the_start_of_an_engine(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    with cli_run(out, str(config(timing={"startup_s": 3600})), "--out", str(out), "--address", cluster) as run:
        run.until(lambda: "starting the simulated engine" in run.output() and bool(survivors(run.run_id)))
        run.ctrl_c()
        assert run.wait() == 130, run.output()
        assert not survivors(run.run_id)
        output = run.output()
    assert "stopped by the user" in output
    assert "given up" not in output
    assert not of_kind(records(out), "unit_failed")


def test_a_second_signal_ends_at_once_even_if_a_node_does_not_answer(tmp_path, cluster, config) -> None:
    out = tmp_path / "out"
    with cli_run(out, str(config()), "--out", str(out), "--address", cluster) as run:
        run.until_done(1)
        server = marked(run.run_id, "simulated_server")
        worker = int(Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(worker, signal.SIGSTOP)
        try:
            run.send(signal.SIGTERM)
            run.until(lambda: "SIGTERM: ending" in run.output())
            run.send(signal.SIGTERM)
            assert run.wait() == 143, run.output()
        finally:
            os.kill(worker, signal.SIGCONT)
        assert_none_survives(run.run_id)
        assert "SIGTERM again: ending at once" in run.output()
