"""`raybench calibrate`: what it prints, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from raybench.cli import app
from raybench.errors import EXIT_INVALID, EXIT_OK, EXIT_USAGE
from raybench.records import calibration
from raybench.records.calibration import Calibration

SMALL = ("--shape", "ttft_s=0.01", "--shape", "itl_s=0.002", "--shape", "output_tokens=6")


def test_the_document_and_the_exit_code_say_the_same() -> None:
    done = CliRunner().invoke(app, ["calibrate", "--streams", "2,3", "--pattern", "steps", *SMALL, "--json"])
    found = Calibration.model_validate(json.loads(done.stdout))
    assert [point.streams for point in found.points if point.num_processes == 1] == [2, 3]
    assert {point.pattern for point in found.points} == {"steps"}
    holds = all(found.processes_for(streams) is not None for streams in (2, 3))
    assert done.exit_code == (EXIT_OK if holds else EXIT_INVALID)
    assert "2 streams, steps, 1 processes: " in done.stderr


def test_the_table_has_a_line_a_point() -> None:
    done = CliRunner().invoke(app, ["calibrate", "--streams", "2", *SMALL], env={"COLUMNS": "200"})
    assert [line.split()[:3] for line in done.stdout.splitlines() if line.split()[1:2] in (["ticks"], ["steps"])][
        :2
    ] == [
        ["2", "ticks", "1"],
        ["2", "steps", "1"],
    ]
    assert "6 tokens over /generate" in done.stdout


def test_a_client_that_cannot_be_exact_ends_with_30(monkeypatch: pytest.MonkeyPatch) -> None:
    # No client is exact to the nanosecond, on no machine, however busy.
    monkeypatch.setattr(calibration, "MAX_ERROR_S", 0.0)
    monkeypatch.setattr(calibration, "MAX_ERROR_FRACTION", 0.0)
    done = CliRunner().invoke(
        app,
        ["calibrate", "--streams", "4", "--pattern", "ticks", "--max-processes", "1", *SMALL],
        env={"COLUMNS": "200"},
    )
    assert done.exit_code == EXIT_INVALID
    assert "FLAGGED" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--streams", "1,x"), "expected numbers such as 1,64,256"),
        (("--streams", "0"), "expected numbers such as 1,64,256"),
        (("--pattern", "waves"), "none of ticks, steps, both"),
        (("--shape", "ttft=1"), "'ttft' is none of ttft_s, itl_s"),
        (("--shape", "output_tokens=1"), "output_tokens"),
        (("--max-processes", "-1"), "max-processes"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, ["calibrate", *words], env={"COLUMNS": "200"})
    assert done.exit_code == EXIT_USAGE
    assert message in done.stderr
