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

from raybench import process
from raybench.errors import PublishError
from raybench.publish.content import RunContent
from raybench.publish.source import read_source
from raybench.publish.state import SinkState, read_state
from raybench.publish.targets import target_runs
from raybench.publish.wandb_log import WandbLog, bodies, read_log


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


def _folder(path: Path, **wandb: str) -> tuple[Path, tuple[RunContent, ...]]:
    settings = config(publish={"sinks": ["wandb"], "wandb": dict(wandb)})
    folder = whole_ledger(settings).write(path / "run")
    return folder, target_runs(read_source(folder), "hashed")


def _state(folder: Path) -> SinkState:
    return read_state(folder).sinks["wandb"]


def publish(folder: Path, *words: str, timeout_s: float = 120) -> tuple[int, str]:
    """`raybench publish` with the W&B variables of this process; (exit code, output)."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    env = process.child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables)
    return process.run([sys.executable, "-m", "raybench", "publish", str(folder), *words], env=env, timeout_s=timeout_s)


def _logs(folder: Path) -> list[WandbLog]:
    return [read_log(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def test_offline_run_per_target(tmp_path: Path, fenced: Listener) -> None:
    before = fenced.num_connections
    folder, wanted = _folder(tmp_path, project="proj")
    code, output = publish(folder)
    assert code == 0, output
    assert "3 offline runs with 6 rows" in output
    state = _state(folder)
    assert (state.state, state.mode, state.error, state.attempts) == ("published", "offline", None, 1)
    assert (state.last.runs[:2], state.last.rows) == (tuple(run.id for run in wanted), 6)
    logs = {log.id: log for log in _logs(folder)}
    (other,) = logs.keys() - {run.id for run in wanted}
    assert logs[other].job_type == "compare"
    assert logs[other].artifacts[-1] == f"{other}-raw"
    for run in wanted:
        log = logs[run.id]
        assert (log.project, log.name, log.group, log.job_type) == ("proj", run.name, run.group, "bench")
        assert sorted(log.tags) == sorted(run.tags)
        rows = [row for row in log.history if "perf/batch_size" in row]
        assert [{k: v for k, v in row.items() if k != "_step"} for row in rows] == [row.values for row in run.history]
        assert [row["_step"] for row in rows] == [row.step for row in run.history]
        assert {f"{table.name}/_type" for table in run.tables} <= log.summary.keys()
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
        # Offline, W&B notes where it staged tables and artifact: these paths stay in the log, which is not what is sent
        # (test_service.py looks at what is).
        for secret in ("__main__.py", *(f'"{name}"' for name in (socket.gethostname(), getuser()))):
            assert secret.encode() not in content


@pytest.mark.slow
def test_publishing_again_leaves_one_folder_for_each_run(tmp_path: Path, fenced: Listener) -> None:
    folder, _ = _folder(tmp_path)
    assert publish(folder) == publish(folder)
    logs = _logs(folder)
    assert len(logs) == 3
    assert sorted(len(log.history) for log in logs) == [1, 4, 4]
    assert _state(folder).attempts == 2


def test_everything_lies_inside_the_run_folder(
    tmp_path: Path, fenced: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    folder, _ = _folder(tmp_path)
    publish(folder)
    assert list(home.rglob("*")) == []


def test_disabled_publishes_nothing_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder, _ = _folder(tmp_path, mode="disabled")
    code, output = publish(folder)
    assert code == PublishError.exit_code
    assert "--mode offline" in output
    assert not (folder / "wandb").exists()


def test_the_environment_comes_before_the_configuration(
    tmp_path: Path, fenced: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder, _ = _folder(tmp_path, mode="offline")
    assert publish(folder)[0] == PublishError.exit_code
    assert not (folder / "wandb").exists()


def test_a_wrong_project_is_a_failure_in_words(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path)
    code, output = publish(folder, "--project", "a/b")
    assert code == PublishError.exit_code
    assert "project" in output
    assert not (folder / "wandb").exists()


def test_a_publisher_that_runs_too_long_is_ended(tmp_path: Path, fenced: Listener) -> None:
    builder = whole_ledger(config(publish={"sinks": ["wandb"], "limit_s": 0.2}))
    folder = builder.write(tmp_path / "run")
    code, output = publish(folder)
    assert code == PublishError.exit_code
    assert "retry with: raybench publish" in output
    assert _state(folder).error == "not done within 0.2 s, and ended"


def test_other_variables_of_w_and_b_steer_nothing(
    tmp_path: Path, fenced: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "elsewhere")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    folder, wanted = _folder(tmp_path)
    assert publish(folder)[0] == 0
    assert {log.group for log in _logs(folder)} == {wanted[0].group}
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_none_is_said_so(tmp_path: Path) -> None:
    code, output = publish(tmp_path / "missing")
    assert code == PublishError.exit_code
    assert "is no folder" in output
    assert not (tmp_path / "missing").exists()


def test_the_reader_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.wandb file"):
        list(bodies(b"something else"))
    with pytest.raises(ValueError, match="damaged"):
        list(bodies(b":W&B\0\0\0" + os.urandom(4) + b"\x05\x00\x01hello"))
