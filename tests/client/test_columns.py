"""Columns: what a row holds, several processes as one, over the disk and back."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from raybench.client.columns import CUT, NEVER, OK, ColumnBuilder, LoadColumns, joined, read_columns, write_columns
from raybench.client.decode import Reply


def known(index: int, status: int = OK) -> dict[str, int]:
    return {
        "index": index, "chain": NEVER, "scheduled_ns": 10, "sent_ns": 11, "end_ns": 500, "status": status,
        "http_status": 200, "in_flight": 1,
    }  # fmt: skip


def built(*indexes: int, process: int = 0) -> LoadColumns:
    builder = ColumnBuilder(process)
    for index in indexes:
        reply = Reply(reads=[1, 2, 4], tokens=[2, 3, 5 + index], counted=True, output_tokens=5 + index, prompt_tokens=7)
        builder.add(known(index), [20, 30 + index, 60, 61, 90], reply, None)
    return builder.build()


def same(one: LoadColumns, other: LoadColumns) -> bool:
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(LoadColumns) if f.name != "errors"
    )


def test_a_row() -> None:
    columns = built(0)
    row = {name: int(getattr(columns, name)[0]) for name in ("first_byte_ns", "first_ns", "end_ns", "longest_gap_ns")}
    assert row == {"first_byte_ns": 20, "first_ns": 30, "end_ns": 90, "longest_gap_ns": 30}
    assert (columns.input_tokens[0], columns.output_tokens[0], columns.cached_tokens[0]) == (7, 5, NEVER)
    assert (columns.first_tokens[0], columns.counted[0]) == (2, 1)
    assert (columns.read_ns.tolist(), columns.read_tokens.tolist(), columns.starts.tolist()) == (
        [30, 60, 90],
        [2, 1, 2],
        [0, 3],
    )


def test_a_failed_row_keeps_the_moment_of_its_failure_and_no_first_token() -> None:
    builder = ColumnBuilder()
    builder.add(known(0, CUT), [20], Reply(), "cut")
    builder.add(known(1, CUT), (), None, "no connection")
    columns = builder.build()
    assert columns.first_ns.tolist() == [NEVER, NEVER]
    assert columns.first_byte_ns.tolist() == [20, NEVER]
    assert columns.end_ns.tolist() == [500, 500]
    assert columns.errors == {0: "cut", 1: "no connection"}


def test_several_processes_are_one_in_the_order_of_the_schedule() -> None:
    one = joined([built(3, 1, process=0), built(0, 2, process=1)])
    assert one.index.tolist() == [0, 1, 2, 3]
    assert one.process.tolist() == [1, 0, 1, 0]
    expected = built(0, 1, 2, 3)
    assert same(replace(one, process=expected.process), expected)


def test_over_the_disk_and_back(tmp_path: Path) -> None:
    builder = ColumnBuilder(1)
    builder.add(known(1), [20, 30], Reply(reads=[1], tokens=[1], counted=True, finish_reason="stop"), None)
    builder.add(known(0, CUT), (), None, "gone")
    columns = builder.build()
    write_columns(columns, tmp_path)
    again = read_columns(tmp_path)
    assert same(again, columns)
    assert (again.errors, again.finish_reasons) == ({0: "gone"}, (None, "stop"))


@pytest.mark.parametrize("parts", [[], [()]])
def test_nothing_at_all(parts: list[tuple[int, ...]]) -> None:
    columns = joined([built(*indexes) for indexes in parts] or [built()])
    assert (columns.num, columns.starts.tolist()) == (0, [0])
