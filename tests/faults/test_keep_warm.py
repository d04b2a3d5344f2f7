"""`--keep-warm` on a real Ray cluster of fake nodes: a driver is killed, one is interrupted, a third ends the run."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_runs import (
    CliRun,
    assert_each_attempt_ended_once,
    assert_none_survives,
    cli_run,
    finished,
    kill,
    of_kind,
    records,
    survivors,
)
from faults.real_faults import CONFIG, FakeNodes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

NO_PUBLICATION = {"sinks": [], "wandb": {"mode": "disabled"}}


@pytest.fixture(scope="module")
def fake_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNodes]:
    cluster = FakeNodes(tmp_path_factory.mktemp("warm-nodes") / "log")
    yield cluster
    cluster.close()


def starts(out: Path) -> list[tuple[str | None, str]]:
    """(start that an engine was taken over from, its URL), in order."""
    return [(r["body"].get("adopted_from"), r["body"]["url"]) for r in of_kind(records(out), "engine")]


def interrupted(run: CliRun, number: signal.Signals) -> int:
    """A run that is ended while its three servers work."""
    run.until_done(1)
    run.until(lambda: len(of_kind(run.records(), "engine")) >= 3)
    run.send(number)
    return run.wait()


def test_servers_outlive_their_drivers_and_are_taken_over(
    fake_nodes: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    path, out = config({"startup_s": 5}, **CONFIG, publish=NO_PUBLICATION), tmp_path / "out"
    words = [str(path), "--address", fake_nodes.address, "--wait-for-nodes-s", "60", "--keep-warm", "5m"]
    with cli_run(out, *words, "--out", str(out)) as run:
        assert interrupted(run, signal.SIGKILL) == -signal.SIGKILL
        run_id, first = run.run_id, starts(out)
        assert len(survivors(run_id)) >= 3, "the servers live on"
        assert [taken for taken, _ in first] == [None] * 3
        with cli_run(out, *words, "--resume", str(out)) as again:
            again.until(lambda: len(of_kind(again.records(), "engine")) >= 6)
            again.send(signal.SIGINT)
            assert again.wait() == 130
            assert "its server stays up for 300 s, for --resume with --keep-warm" in again.output()
            assert "taken over from n0.0 after" in again.output()
            second = starts(out)[3:]
            assert sorted(url for _, url in second) == sorted(url for _, url in first), "the same servers"
            assert {taken for taken, _ in second} == {"n0.0", "n1.0", "n2.0"}
            code, output = finished(out, *words, "--resume", str(out))
            assert code == 0, output
            assert all(taken is not None for taken, _ in starts(out)[6:9])
            assert_each_attempt_ended_once(records(out))
            assert_none_survives(run_id)


def test_a_resume_without_leases_ends_what_was_kept(
    fake_nodes: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    path, out = config(**CONFIG, publish=NO_PUBLICATION), tmp_path / "out"
    words = [str(path), "--address", fake_nodes.address, "--wait-for-nodes-s", "60"]
    with cli_run(out, *words, "--out", str(out), "--keep-warm", "5m") as run:
        interrupted(run, signal.SIGKILL)
        run_id = run.run_id
        code, output = finished(out, *words, "--resume", str(out))
        assert code == 0, output
        assert f"ending {run_id}.slot0.n" in output and "which an earlier session kept warm" in output
        assert {taken for taken, _ in starts(out)[3:]} == {None}
        assert_none_survives(run_id)


def test_a_server_that_died_meanwhile_is_started_anew(
    fake_nodes: FakeNodes, tmp_path: Path, config: Callable[..., Path]
) -> None:
    path, out = config(**CONFIG, publish=NO_PUBLICATION), tmp_path / "out"
    words = [str(path), "--address", fake_nodes.address, "--wait-for-nodes-s", "60", "--keep-warm", "5m"]
    with cli_run(out, *words, "--out", str(out)) as run:
        interrupted(run, signal.SIGKILL)
        for left in survivors(run.run_id):
            kill(int(left.split()[0]))
        code, output = finished(out, *words, "--resume", str(out))
        assert code == 0, output
        assert {taken for taken, _ in starts(out)[3:6]} == {None}
        assert_none_survives(run.run_id)


def test_a_private_cluster_keeps_nothing_warm(tmp_path: Path, config: Callable[..., Path]) -> None:
    path, out = config(**CONFIG, publish=NO_PUBLICATION), tmp_path / "out"
    code, output = finished(out, str(path), "--out", str(out), "--address", "local", "--keep-warm", "5m")
    assert code == 20, output
    assert "--keep-warm needs a cluster that outlives this command" in output
    assert not (out / "ledger.jsonl").exists()
