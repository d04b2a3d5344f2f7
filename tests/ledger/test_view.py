"""Folding a ledger: an attempt ends once, whatever else stands in the file."""

import pytest
from ledger_builder import whole_ledger

from raybench.errors import LedgerError
from raybench.ledger.view import fold


def test_an_attempt_that_ends_twice_is_refused() -> None:
    records = whole_ledger().records
    [first, *_] = [record for record in records if record.kind == "unit_done"]
    again = first.model_copy(update={"seq": len(records)})
    with pytest.raises(LedgerError, match=f"attempt 1 of unit {first.key} ends twice"):
        fold([*records, again])


def test_the_last_of_several_attempts_counts() -> None:
    records = whole_ledger().records
    [first, *_] = [record for record in records if record.kind == "unit_done"]
    assert first.key is not None
    view = fold([*records, first.model_copy(update={"seq": len(records), "attempt": 2, "node": "n9"})])
    assert (view.done[first.key].attempt, view.done[first.key].node) == (2, "n9")
