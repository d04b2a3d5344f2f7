"""The lock that keeps two measurements of one machine apart."""

import errno
import os
import re
import tempfile
import threading
from pathlib import Path

import pytest

from raybench.errors import EngineRefused, NodeLost
from raybench.node import host
from raybench.node.host import Cancelled, host_is_measured, host_lock


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


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user's file of mode 0600 is to us; root, who runs some tests, could read it."""

    def refuse(path: object, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(host.os, "open", refuse)


def test_the_file_is_readable_for_all_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "raybench-host.lock"
    before = os.umask(0o077)
    try:
        with host_lock(alone=True, progress=str):
            assert path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    path.chmod(0o600)  # as an earlier version left it
    assert not host_is_measured()
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_another_user_keeps_closed_is_named_with_its_owner(
    tmp_path: Path, hidden: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "raybench-host.lock"
    path.write_bytes(b"")
    owner = path.owner()
    words = re.escape(
        f"the lock of this host, {path}, cannot be opened (Permission denied). It belongs to {owner}, who lets others "
        f"in with: chmod 644 {path}"
    )
    with pytest.raises(EngineRefused, match=words), host_lock(alone=True, progress=str):
        raise AssertionError("held")
    with pytest.raises(EngineRefused, match=words):
        host_is_measured()

    def unknown(number: int) -> str:
        raise KeyError(number)

    monkeypatch.setattr(host.pwd, "getpwuid", unknown)
    with pytest.raises(EngineRefused, match=f"It belongs to user {path.stat().st_uid}, who"):
        host_is_measured()


def test_a_folder_in_which_no_file_can_be_made_is_told(hidden: None) -> None:
    with pytest.raises(EngineRefused, match="a folder for it that all users of this machine can write to: TMPDIR"):
        host_is_measured()


def test_a_folder_without_locks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(EngineRefused, match=r"cannot be taken: its file system knows no locks \(Function not") as error:
        host_is_measured()
    assert error.value.message.endswith("another file system: TMPDIR names it.")


def test_a_file_that_somebody_makes_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def late(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            path.write_bytes(b"")
        return real(path, flags, mode)

    monkeypatch.setattr(host.os, "open", late)
    assert not host_is_measured()


def test_a_long_wait_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(host, "TOLD_EVERY_S", 0.03)
    with (
        host_lock(alone=True, progress=str),
        pytest.raises(Cancelled),
        host_lock(alone=False, progress=told.append, cancelled=lambda: len(told) == 3),
    ):
        raise AssertionError("held twice")
    again = "waiting: another raybench measures on this host, for 0 min so far"
    assert told == ["waiting: another raybench measures on this host", again, again]
