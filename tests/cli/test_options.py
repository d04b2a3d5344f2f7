"""Words of the command line that are more than a number or a path."""

import pytest
import typer

from raybench.cli.options import seconds_of


@pytest.mark.parametrize(("words", "seconds"), [(None, None), ("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0)])
def test_durations(words: str | None, seconds: float | None) -> None:
    assert seconds_of(words) == seconds


@pytest.mark.parametrize("words", ["", "30", "m", "1.5h", "-5m", "59s", "5 m", "3d"])
def test_other_words_are_no_durations(words: str) -> None:
    with pytest.raises(typer.BadParameter, match="at least a minute, such as 90s, 30m or 2h"):
        seconds_of(words)
