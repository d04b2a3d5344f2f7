"""The real W&B client, offline: what its log holds, and that nothing leaves the machine or outlives the process.

One publication serves most tests: they look at what it left.
"""

import itertools
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from getpass import getuser
from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger
from publishers import assert_logged, command, logs_of, publish, run_folder, state

from raybench import process
from raybench.errors import PublishError
from raybench.publish.content import Publication, RunContent
from raybench.publish.source import read_source
from raybench.publish.targets import target_runs
from raybench.publish.wandb_back import check_logs
from raybench.publish.wandb_log import WandbLog, bodies


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


@dataclass
class Offline:
    """One publication by the command, and what it met."""

    folder: Path
    wanted: tuple[RunContent, ...]
    logs: dict[str, WandbLog]
    code: int
    output: str
    num_connections: int
    home: Path
    elsewhere: Path


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offline]:
    root = tmp_path_factory.mktemp("offline")
    home, elsewhere = root / "home", root / "elsewhere"
    home.mkdir()
    folder = run_folder(root, wandb={"project": "proj"})
    listener = Listener()
    unreachable = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    code, output = command(
        folder, HOME=str(home), WANDB_BASE_URL=listener.url, WANDB_RUN_GROUP="elsewhere", WANDB_DIR=str(elsewhere),
        **unreachable,
    )  # fmt: skip
    wanted = target_runs(read_source(folder), "hashed")
    logs = {log.id: log for log in logs_of(folder)}
    yield Offline(folder, wanted, logs, code, output, listener.num_connections, home, elsewhere)
    listener.close()


def test_a_run_for_each_target_and_their_comparison(offline: Offline) -> None:
    assert offline.code == 0, offline.output
    assert "3 offline runs with 6 rows" in offline.output
    told = state(offline.folder)
    assert (told.state, told.mode, told.error, told.attempts) == ("published", "offline", None, 1)
    assert (told.last.runs[:2], told.last.rows) == (tuple(run.id for run in offline.wanted), 6)
    (other,) = offline.logs.keys() - {run.id for run in offline.wanted}
    compared = offline.logs[other]
    assert compared.job_type == "compare"
    assert compared.artifacts[-1] == f"{other}-raw"
    assert {"compare/speedup/_type", "compare/accuracy/_type", "figures/throughput/_type"} <= compared.summary.keys()


def test_history_summary_configuration_group_and_tags(offline: Offline) -> None:
    for run in offline.wanted:
        assert_logged(run, offline.logs[run.id], "proj")


def test_nobody_was_called(offline: Offline) -> None:
    assert offline.code == 0
    assert offline.num_connections == 0


def test_nothing_of_the_machine_is_in_the_log(offline: Offline) -> None:
    for path in offline.folder.glob("wandb/offline-run-*/*.wandb"):
        content = b"".join(bodies(path.read_bytes()))
        # Offline, W&B notes where it staged tables and artifact: these paths stay in the log, which is not what is sent
        # (test_service.py looks at what is).
        for secret in ("__main__.py", *(f'"{name}"' for name in (socket.gethostname(), getuser()))):
            assert secret.encode() not in content


def test_everything_lies_inside_the_run_folder(offline: Offline) -> None:
    assert list(offline.home.rglob("*")) == []
    assert not offline.elsewhere.exists()


def test_other_variables_of_w_and_b_steer_nothing(offline: Offline) -> None:
    assert {log.group for log in offline.logs.values()} == {offline.wanted[0].group}


def test_the_views_specifications_lie_in_the_run_folder(offline: Offline) -> None:
    for name in ("workspace.json", "report.json"):
        assert offline.wanted[0].group in (offline.folder / "wandb" / name).read_text()


def test_publishing_again_leaves_one_folder_for_each_run(offline: Offline, tmp_path: Path) -> None:
    folder = shutil.copytree(offline.folder, tmp_path / "run", symlinks=True)
    told = publish(folder, {})
    assert told.ok, told.text
    logs = logs_of(folder)
    assert len(logs) == 3
    assert sorted(len(log.history) for log in logs) == [1, 4, 4]
    assert state(folder).attempts == 2


def test_a_row_of_something_else_is_not_taken_for_ours(offline: Offline) -> None:
    """Same id, same steps, other measurements: a copy of the folder that went on by itself, say."""
    folders = {run.id: list(offline.folder.glob(f"wandb/offline-run-*-{run.id}")) for run in offline.wanted}
    check_logs(Publication(offline.wanted, 0, closed=True), folders)
    run = offline.wanted[0]
    changed = replace(run.history[1], values=run.history[1].values | {"perf/itl_ms": 12.5})
    other = replace(run, history=(run.history[0], changed, *run.history[2:]))
    with pytest.raises(PublishError, match=r"perf/itl_ms of step \d+ is 12\.\d+, not 12\.5.*--attempt LABEL"):
        check_logs(Publication((other,), 0, closed=True), folders)


COUNTERS = """
import pathlib
for name in ("snmp", "snmp6"):
    for line in pathlib.Path("/proc/net", name).read_text().splitlines():
        print("COUNTER", line)
"""


def _sent(output: str) -> dict[str, int]:
    """What the kernel counted of a network namespace: connections tried, datagrams sent, packets without a route."""
    found: dict[str, int] = {}
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("COUNTER ")]
    for names, values in itertools.pairwise(lines):
        if names[0] == values[0]:
            found |= {f"{names[0]}{name}": int(value) for name, value in zip(names[1:], values[1:], strict=True)}
    found |= {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[0].startswith(("Ip6", "Udp6"))}
    wanted = ("Tcp:ActiveOpens", "Udp:OutDatagrams", "Ip:OutRequests", "Ip:OutNoRoutes", "Ip6OutNoRoutes")
    return {name: found[name] for name in wanted if name in found}


def _fenced(*argv: str) -> tuple[int, str]:
    """A command in a network of its own, in which there is nobody, not even loopback."""
    counted = [sys.executable, "-c", COUNTERS]
    script = '"$@"; code=$?; ' + " ".join(f"'{word}'" for word in counted[:2]) + ' "$COUNTERS"; exit $code'
    env = process.child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COUNTERS": COUNTERS})
    return process.run(["unshare", "-rn", "sh", "-c", script, "sh", *argv], env=env, timeout_s=300)


def test_offline_sends_not_one_packet(tmp_path: Path) -> None:
    """Counted by the kernel, so that W&B's own service process is inside the fence too."""
    call = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError: pass"
    if shutil.which("unshare") is None or _fenced("true")[0] != 0:
        pytest.skip("this machine does not let us make a network namespace (unshare -rn)")
    assert sum(_sent(_fenced(sys.executable, "-c", call)[1]).values()) > 0, "the fence counts nothing"
    code, output = _fenced(sys.executable, "-m", "raybench", "publish", str(run_folder(tmp_path)))
    assert code == 0, output
    assert "3 offline runs with 6 rows" in output
    assert set(_sent(output).values()) == {0}, _sent(output)


def test_disabled_publishes_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, wandb={"mode": "disabled"})
    with pytest.raises(PublishError, match="--mode offline"):
        publish(folder, {})
    assert not (folder / "wandb").exists()


def test_the_environment_comes_before_the_configuration(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, wandb={"mode": "offline"})
    with pytest.raises(PublishError, match="disabled"):
        publish(folder, {"WANDB_MODE": "disabled"})
    assert not (folder / "wandb").exists()


def test_a_wrong_project_is_a_failure_in_words(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    code, output = command(folder, "--project", "a/b")
    assert code == PublishError.exit_code
    assert "project" in output
    assert "Traceback" not in output
    assert not (folder / "wandb").exists()


def test_a_publisher_that_runs_too_long_is_ended(tmp_path: Path) -> None:
    folder = whole_ledger(config(publish={"sinks": ["wandb"], "limit_s": 0.2})).write(tmp_path / "run")
    told = publish(folder, {})
    assert not told.ok
    assert "retry with: raybench publish" in told.text
    assert state(folder).error == "not done within 0.2 s, and ended"


def test_a_folder_that_is_none_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="is no folder"):
        publish(tmp_path / "missing", {})
    assert not (tmp_path / "missing").exists()


def test_the_reader_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.wandb file"):
        list(bodies(b"something else"))
    with pytest.raises(ValueError, match="damaged"):
        list(bodies(b":W&B\0\0\0" + os.urandom(4) + b"\x05\x00\x01hello"))
