"""The publisher's own files: its lock, a torn state, a disk on which nothing can be written."""

import errno
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from publishers import builder_of, command, publish, state

from raybench import process
from raybench.errors import EngineRefused, PublishError, StorageError
from raybench.publish.settings import Flags
from raybench.publish.state import (
    BEFORE,
    LOCK,
    STATE,
    Published,
    PublishState,
    SinkState,
    publisher_lock,
    read_state,
    write_state,
)
from raybench.publish.supervise import Order, entry
from raybench.publish.writing import being_written


def _folder(path: Path) -> Path:
    return builder_of(sinks=["parquet"]).write(path / "run")


def test_a_second_publisher_is_told_of_the_first(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    with publisher_lock(folder), pytest.raises(PublishError, match="another publisher is at work"):
        publish(folder, {})
    assert not (folder / STATE).exists()
    assert publish(folder, {}).ok, "the lock went with its holder"


def test_a_file_system_without_locks_is_not_taken_for_another_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    folder = _folder(tmp_path)
    monkeypatch.setattr("fcntl.flock", refuse)
    words = re.escape(f"{folder} cannot be locked: its file system knows no locks (No locks available). Publish a copy")
    with pytest.raises(PublishError, match=words):
        publish(folder, {})
    assert not being_written(folder), "no raybench can hold its ledger there"


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read /.*xxx: File name too long\."):
        publish(tmp_path / ("x" * 300), {})


def test_a_torn_state_is_as_good_as_none(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / STATE).write_text('{"version": 1, "sinks": {"par')
    assert read_state(folder).sinks == {}
    assert publish(folder, {}).ok
    assert (state(folder, "parquet").state, state(folder, "parquet").attempts) == ("published", 1)


@pytest.mark.parametrize("content", [b"", b"\0" * 400, b'{"version": 1, "sinks": {"wan', None])
def test_a_torn_state_keeps_the_addresses_of_the_views(tmp_path: Path, content: bytes | None) -> None:
    """As a machine that loses power leaves a file: empty, zeros, its beginning, or not there."""
    address = "http://site/team/raybench/reports/first--x1"
    done = SinkState(state="published", attempts=1, last=Published(report_url=address))
    write_state(tmp_path, "wandb", done)
    write_state(tmp_path, "wandb", done.model_copy(update={"state": "running", "attempts": 2}))
    if content is None:
        (tmp_path / STATE).unlink()
    else:
        (tmp_path / STATE).write_bytes(content)
    assert state(tmp_path).last.report_url == address
    write_state(tmp_path, "parquet", SinkState(state="running"))
    assert state(tmp_path).last.report_url == address
    assert PublishState.model_validate_json((tmp_path / BEFORE).read_bytes()).sinks["wandb"] == done


def test_comparisons_with_runs_of_one_name_have_states_of_their_own(tmp_path: Path) -> None:
    first = tmp_path / "monday" / "run"
    others = [tmp_path / day / "run" for day in ("tuesday", "wednesday")]
    names = {entry(Order((first, other), Flags()), "wandb") for other in others}
    assert len(names) == 2
    assert entry(Order((first, first.with_name("later")), Flags()), "wandb") == "wandb against later"


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path: Path) -> None:
    """Steps are places in the ledger; its wall clock is for the title only."""
    builder = builder_of(sinks=["parquet"])
    builder.records = [r.model_copy(update={"t": r.t - 5_000 * (r.seq > 20)}) for r in builder.records]
    told = publish(builder.write(tmp_path / "run"), {})
    assert told.ok, told.text
    assert "with 6 rows" in told.text


def _mounted(folder: Path, options: str, script: str) -> tuple[int, str]:
    """A command with a file system of its own under a folder, which is a copy of what lay there."""
    steps = (
        f'cp -r "$1" "$1.copy" && mount -t tmpfs -o size=8m none "$1" && cp -r "$1.copy/." "$1" && {options}; {script}'
    )
    env = process.child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHON": sys.executable})
    return process.run(["unshare", "-rm", "sh", "-c", steps, "sh", str(folder)], env=env, timeout_s=300)


PUBLISH = '"$PYTHON" -m raybench publish "$1"'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ('mount -o remount,ro "$1"', "Read-only file system"),
        ('(dd if=/dev/zero of="$1/full" bs=64k; dd if=/dev/zero of="$1/full2" bs=1) 2>/dev/null', "No space left"),
    ],
    ids=["read-only", "full"],
)
def test_where_nothing_can_be_written_it_is_said_so(tmp_path: Path, options: str, words: str) -> None:
    folder = _folder(tmp_path)
    if shutil.which("unshare") is None or _mounted(folder, "true", "true")[0] != 0:
        pytest.skip("this machine does not let us mount a file system (unshare -rm)")
    shutil.rmtree(folder.with_name("run.copy"))
    code, output = _mounted(folder, options, PUBLISH)
    assert code == PublishError.exit_code, output
    assert words in output
    assert "Traceback" not in output
    code, output = command(folder)
    assert code == 0, f"nothing was lost: {output}"
    assert (folder / LOCK).is_file()


def test_a_hosts_lock_that_cannot_be_looked_at_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a run folder that cannot be written, which would send people to the wrong file."""

    def refuse() -> bool:
        raise EngineRefused("the lock of this host cannot be opened")

    monkeypatch.setattr("raybench.publish.supervise.host_is_measured", refuse)
    folder = _folder(tmp_path)
    with pytest.raises(PublishError, match=r"^the lock of this host cannot be opened$"):
        publish(folder, {})
