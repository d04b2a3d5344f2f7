"""What holds for every test: no network but loopback, no Ray outside tests that say so, no skipped SGLang in CI."""

import os
import socket
import sys
from collections.abc import Generator, Iterator

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A local cluster that a test starts must not write a token into the home folder, nor ask for one.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("WANDB_MODE", "offline")

LOOPBACK = ("127.", "::1", "localhost", "::ffff:127.")


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a path of a Unix socket
    host = str(address[0])
    return host == "" or host.startswith(LOOPBACK)


@pytest.fixture(autouse=True)
def fence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only loopback sockets, and no `ray.init`, outside tests that are marked for it."""
    if request.node.get_closest_marker("ray") or request.node.get_closest_marker("sglang"):
        yield
        return
    connect = socket.socket.connect

    def local_connect(self: socket.socket, address: object) -> None:
        if not _is_local(address):
            raise AssertionError(f"a test that is not marked tried to reach {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_connect)

    def no_ray(*args: object, **kwargs: object) -> None:
        raise AssertionError("ray.init in a test that is not marked ray")

    # Ray's own name is patched only where something has loaded it: loading it here would slow every test down.
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", no_ray)
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a real-SGLang test that is skipped is a failure."""
    report = yield
    if os.environ.get("RAYBENCH_CI") == "1" and report.skipped and item.get_closest_marker("sglang"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, yet in CI the tests of real SGLang must run: {report.longrepr}"
    return report
