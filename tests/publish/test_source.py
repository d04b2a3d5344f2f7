"""Whether a run that is read goes on: a session that is taken for over too early gives rows that no replay repeats."""

import fcntl
import os
from pathlib import Path

from ledger_builder import LedgerBuilder, whole_ledger
from publishers import writing

from raybench.ledger.journal import LEDGER, read
from raybench.publish.source import read_source
from raybench.publish.targets import target_runs
from raybench.records import LedgerRecord


def _half() -> tuple[LedgerBuilder, LedgerBuilder]:
    """A run after the first repeat of all points of alpha, and the same when it is over."""
    whole, half = whole_ledger(), whole_ledger()
    half.records = [record for record in whole.records if record.seq < _seq_of(whole, "alpha-static-b1-r1-l0")]
    return half, whole


def _seq_of(builder: LedgerBuilder, key: str) -> int:
    return next(record.seq for record in builder.records if record.key == key)


def test_a_run_goes_on_as_long_as_its_ledger_is_held(tmp_path: Path) -> None:
    half, whole = _half()
    folder = half.write(tmp_path)
    with writing(folder):
        assert not read_source(folder).closed
    assert read_source(folder).closed, "whoever wrote it is gone"
    whole.write(folder)
    with writing(folder):
        assert read_source(folder).closed, "it says itself that it is over"


def test_a_run_that_ends_while_it_is_read_is_not_taken_for_over(tmp_path: Path) -> None:
    half, whole = _half()
    folder = half.write(tmp_path)
    with writing(folder) as descriptor:

        def then_it_ends(path: Path) -> tuple[LedgerRecord, ...]:
            records = read(path)
            whole.write(path)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return records

        seen = read_source(folder, reader=then_it_ends)
    assert not seen.closed
    sent = [row.step for row in target_runs(seen, "hashed")[0].history]
    wanted = [row.step for row in target_runs(read_source(folder), "hashed")[0].history]
    assert wanted[: len(sent)] == sent


def test_a_run_that_is_resumed_while_it_is_read_is_not_taken_for_over(tmp_path: Path) -> None:
    folder = _half()[0].write(tmp_path)
    held: list[int] = []

    def it_is_resumed(path: Path) -> tuple[LedgerRecord, ...]:
        held.append(os.open(path / LEDGER, os.O_RDWR))
        fcntl.flock(held[0], fcntl.LOCK_EX)
        return read(path)

    try:
        assert not read_source(folder, reader=it_is_resumed).closed
    finally:
        os.close(held[0])
