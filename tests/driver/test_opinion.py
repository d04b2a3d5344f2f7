"""The second opinion: listed, never used; and a judge that freezes or dies takes nothing with it."""

from pathlib import Path

import pytest
from ledger_builder import config, whole_ledger

from raybench.cli import app
from raybench.driver import opinion
from raybench.driver.opinion import Question, judge, second_opinions
from raybench.errors import ClientError, ConfigError
from raybench.report.write import read_report

FAKE = """
import os, re, signal, time

def parse(text):
    if "FREEZE" in text:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])
        while True:
            time.sleep(1)
    if "DIE" in text:
        os._exit(9)
    if "RAISE" in text:
        raise ValueError("no")
    return re.findall(r"[0-9]+", text)[-1:]

def verify(gold, answer):
    return gold == answer
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A math-verify of our own that can be made to freeze beyond all signals but SIGKILL."""
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "math_verify.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("fake")
def test_a_judge_that_freezes_dies_or_raises_costs_one_opinion() -> None:
    replies = ["it is 70", "it is 71", "FREEZE 70", "70", "DIE 70", "RAISE", "no number", "so 70"]
    said = judge([Question(reply, "70") for reply in replies], batch_limit_s=8)
    assert said == [True, False, None, True, None, None, None, True]


@pytest.mark.usefixtures("fake")
def test_many_deaths_end_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinion, "MAX_KILLED", 2)
    assert judge([Question(reply, "70") for reply in ("70", "DIE", "70", "DIE", "70")]) == [
        True,
        None,
        True,
        None,
        None,
    ]


def test_a_judge_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('half an installation')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ClientError, match=r"math-verify did not start .* half an installation"):
        judge([Question("70", "70")])
    assert judge([]) == []


@pytest.mark.usefixtures("fake")
def test_disagreements_are_listed_and_change_nothing(tmp_path: Path) -> None:
    # The fake reads the last number; we read the answer line.
    def change(sample):
        hit = sample.question == "q005" and sample.target == "alpha"
        return sample.model_copy(update={"reply": f"Answer: {sample.gold}\nThat took 99 steps."}) if hit else sample

    folder = whole_ledger(config(perf=[]), sample=change).write(tmp_path / "run")
    before = read_report(folder)
    heard = second_opinions(folder)
    assert (heard.num_asked, heard.num_silent) == (80, 0)
    (one,) = heard.disagreements
    assert (one.target, one.eval, one.question, one.outcome, one.value, one.right) == (
        "alpha", "sums", "q005", "correct", "6", False
    )  # fmt: skip
    assert read_report(folder) == before


def test_without_the_extra_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinion.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'raybench\[second-opinion\]'") as caught:
        second_opinions(tmp_path)
    assert caught.value.exit_code == 10


@pytest.mark.usefixtures("fake")
def test_the_command_line_lists_what_moved_and_where_opinions_differ(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    def change(sample):
        hit = sample.question == "q005" and sample.target == "alpha"
        return sample.model_copy(update={"reply": f"Answer: {sample.gold}\nThat took 99 steps."}) if hit else sample

    folder = whole_ledger(sample=change).write(tmp_path / "run")
    words = ["report", str(folder), "--regrade", "--second-opinion"]
    first = CliRunner().invoke(app, words)
    assert "regrade: no earlier grades are stored in this folder" in first.output
    assert "grader_disagreement: alpha sums q005 repeat 0: correct (read 6), math-verify says wrong" in first.output
    grades = (folder / "grades.jsonl").read_text()
    (folder / "grades.jsonl").write_text(
        grades.replace('"outcome":"incorrect","value":"5"', '"outcome":"unparsed","value":null', 1)
    )
    second = CliRunner().invoke(app, words)
    assert "regrade: 1 sample moved since the last report" in second.output
    assert "alpha sums q003 repeat 0: unparsed (none) -> incorrect (5)" in second.output
    assert (folder / "grades.jsonl").read_text() == grades
    assert first.exit_code == second.exit_code
    plain = CliRunner().invoke(app, ["report", str(folder)])
    assert "regrade" not in plain.output and "second opinion" not in plain.output
    assert plain.exit_code == first.exit_code


@pytest.mark.slow
def test_the_real_math_verify_agrees_and_survives_towers() -> None:
    pytest.importorskip("math_verify")
    replies = [
        (r"so \boxed{70}", "70"),
        (r"\boxed{71}", "70"),
        (r"\boxed{\frac{1}{2}}", "1/2"),
        (r"\boxed{1+x}", "x+1"),
    ]
    said = judge([Question(*pair) for pair in [*replies, (r"\boxed{2^{10^{10}}}", "70"), (r"\boxed{70}", "70")]], 60)
    assert said[:4] == [True, False, True, True]
    assert said[4] is not True
    assert said[5] is True
