"""The lock that keeps two measurements of one machine apart."""

import os
import tempfile
import threading
from pathlib import Path

import pytest

from raybench.errors import NodeLost
from raybench.node import host
from raybench.node.host import Cancelled, host_lock


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(host, "POLL_S", 0.01)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_second_holder_waits_and_says_so_once(first: bool, second: bool) -> None:
    order: list[str] = []
    told: list[str] = []
    waiting = threading.Event()

    def hold_second() -> None:
        def progress(line: str) -> None:
            told.append(line)
            waiting.set()

        with host_lock(alone=second, progress=progress):
            order.append("second")

    thread = threading.Thread(target=hold_second)
    with host_lock(alone=first, progress=told.append):
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert told == ["waiting: another raybench measures on this host"]


def test_two_that_tolerate_others_hold_it_together() -> None:
    told: list[str] = []
    with host_lock(alone=False, progress=told.append), host_lock(alone=False, progress=told.append):
        assert told == []


def test_a_cancelled_wait_ends_and_so_does_one_of_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    with host_lock(alone=True, progress=str):
        with pytest.raises(Cancelled), host_lock(alone=True, progress=str, cancelled=lambda: True):
            raise AssertionError("held twice")
        monkeypatch.setattr(host, "PATIENCE_S", 0.0)
        with pytest.raises(NodeLost, match="for an hour"), host_lock(alone=True, progress=str):
            raise AssertionError("held twice")


def test_a_lock_file_that_may_only_be_read_suffices(tmp_path: Path) -> None:
    (tmp_path / "raybench-host.lock").touch(mode=0o444)
    with host_lock(alone=True, progress=str):
        assert os.listdir(tmp_path) == ["raybench-host.lock"]  # noqa: PTH208
