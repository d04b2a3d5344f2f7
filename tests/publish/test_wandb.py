"""The real W&B client, offline: what its log holds, and that nothing leaves the machine or outlives the process."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger
from wandb_log import WandbLog, bodies, read_log

from raybench import process
from raybench.errors import PublishError
from raybench.publish.__main__ import main
from raybench.publish.names import runs
from raybench.publish.state import PublishState, read_state
from raybench.report.model import Report
from raybench.report.write import write_report


class Listener:
    """Counts connections on a loopback port; stands where W&B's service would be."""

    def __init__(self) -> None:
        self.num_connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.num_connections += 1

    def close(self) -> None:
        """Stop; the thread ends."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture(scope="module")
def service() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def fenced(service: Listener, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """No way out: the service's address is the listener, any proxy a closed port."""
    monkeypatch.setenv("WANDB_BASE_URL", service.url)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return service


def _folder(path: Path, **wandb: str) -> tuple[Path, Report]:
    folder = whole_ledger(config(publish={"wandb": dict(wandb)})).write(path / "run")
    return folder, write_report(folder)


def publish(folder: Path, *words: str, timeout_s: float = 120) -> tuple[int, str]:
    """As the driver does it: a child with the W&B variables of this process; (exit code, output)."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    env = process.child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables)
    return process.run([sys.executable, "-m", "raybench.publish", str(folder), *words], env=env, timeout_s=timeout_s)


def _logs(folder: Path) -> list[WandbLog]:
    return [read_log(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def test_offline_run_per_target(tmp_path: Path, fenced: Listener) -> None:
    before = fenced.num_connections
    folder, report = _folder(tmp_path, project="proj")
    code, output = publish(folder)
    assert code == 0, output
    assert "2 offline runs with 6 rows" in output
    state = read_state(folder)
    wanted = runs(report)
    assert state == PublishState(state="published", mode="offline", runs=tuple(r.id for r in wanted), rows=6)
    logs = {log.id: log for log in _logs(folder)}
    assert list(logs.keys() - {run.id for run in wanted}) == []
    for run in wanted:
        log = logs[run.id]
        assert (log.project, log.name, log.group, log.job_type) == ("proj", run.name, run.group, "bench")
        assert sorted(log.tags) == sorted(run.tags)
        assert [{k: v for k, v in row.items() if k != "_step"} for row in log.history] == list(run.history)
        assert [row["_step"] for row in log.history] == [0, 1, 2]
        assert log.summary.items() >= run.summary.items()
        assert log.config.items() >= run.config.items()
        assert log.step_metrics["perf/*"] == "perf/batch_size"
        assert (log.host, log.exit_code) == ("raybench", 0)
    assert fenced.num_connections == before


def test_nothing_of_the_machine_is_in_the_log(tmp_path: Path, fenced: Listener) -> None:
    folder, _ = _folder(tmp_path)
    publish(folder)
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        content = b"".join(bodies(path.read_bytes()))
        for secret in (str(tmp_path), "__main__.py", *(f'"{name}"' for name in (socket.gethostname(), getuser()))):
            assert secret.encode() not in content


@pytest.mark.slow
def test_publishing_again_leaves_one_folder_for_each_run(tmp_path: Path, fenced: Listener) -> None:
    folder, _ = _folder(tmp_path)
    assert publish(folder) == publish(folder)
    logs = _logs(folder)
    assert len(logs) == 2
    assert [len(log.history) for log in logs] == [3, 3]


def test_everything_lies_inside_the_run_folder(
    tmp_path: Path, fenced: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    folder, _ = _folder(tmp_path)
    publish(folder)
    assert list(home.rglob("*")) == []


def test_disabled_publishes_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path, mode="disabled")
    assert main([str(folder)]) == PublishError.exit_code
    assert "--mode offline" in _error(folder)
    assert not (folder / "wandb").exists()


def test_no_report_is_a_failure_in_words(tmp_path: Path) -> None:
    folder = whole_ledger().write(tmp_path)
    assert main([str(folder)]) == PublishError.exit_code
    assert "report.json" in _error(folder)


def _error(folder: Path) -> str:
    state = read_state(folder)
    assert state is not None and state.state == "failed" and state.error
    return state.error


def test_a_wrong_project_is_a_failure_in_words(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path)
    assert main([str(folder), "--project", "a/b"]) == PublishError.exit_code
    assert "project" in _error(folder)
    assert not (folder / "wandb").exists()


@pytest.mark.slow
def test_online_without_a_service_fails_and_says_so(
    tmp_path: Path, fenced: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    folder, _ = _folder(tmp_path, mode="online")
    code, output = publish(folder)
    assert code == PublishError.exit_code
    assert output.strip().splitlines()[-1].startswith("W&B: ")
    state = read_state(folder)
    assert state is not None
    assert (state.state, state.mode) == ("failed", "online")


def test_a_publisher_that_was_ended_leaves_its_state(tmp_path: Path, fenced: Listener) -> None:
    folder, _ = _folder(tmp_path)
    assert publish(folder, timeout_s=0.2)[0] == 124
    state = read_state(folder)
    assert state is None or state.state == "running"


def test_other_variables_of_w_and_b_steer_nothing(
    tmp_path: Path, fenced: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_RUN_GROUP", "elsewhere")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    folder, report = _folder(tmp_path)
    assert publish(folder)[0] == 0
    assert {log.group for log in _logs(folder)} == {runs(report)[0].group}
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_published_does_not_raise(tmp_path: Path) -> None:
    assert main([str(tmp_path / "missing")]) == PublishError.exit_code
    assert not (tmp_path / "missing").exists()


def test_the_reader_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.wandb file"):
        list(bodies(b"something else"))
    with pytest.raises(ValueError, match="damaged"):
        list(bodies(b":W&B\0\0\0" + os.urandom(4) + b"\x05\x00\x01hello"))
