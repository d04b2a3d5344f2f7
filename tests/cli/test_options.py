"""Words of the command line that are more than a number or a path."""

import pytest
import typer
from typer.testing import CliRunner

from raybench.cli import app
from raybench.cli.options import seconds_of, warm_words


@pytest.mark.parametrize(("words", "seconds"), [(None, None), ("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0)])
def test_durations(words: str | None, seconds: float | None) -> None:
    assert seconds_of(words) == seconds


@pytest.mark.parametrize("words", ["", "30", "m", "1.5h", "-5m", "59s", "5 m", "3d"])
def test_other_words_are_no_durations(words: str) -> None:
    with pytest.raises(typer.BadParameter, match="at least a minute, such as 90s, 30m or 2h"):
        seconds_of(words)


def test_the_words_that_ask_for_warm_servers_again() -> None:
    assert warm_words(None) == []
    assert warm_words("30m") == ["--keep-warm", "30m"]


@pytest.mark.parametrize("command", [("run",), ("submit", "--out", "/shared/x")])
def test_a_wrong_duration_is_wrong_usage_before_anything_is_read(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*command, "none.yaml", "--keep-warm", "5"])
    assert done.exit_code == 2
    assert "at least a minute" in " ".join(done.output.split())
