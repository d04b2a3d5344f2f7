"""Evals that a configuration describes itself, from the YAML to the score."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from simulated_engines import running, timing

from raybench.client.chat import run_chat
from raybench.client.job import ChatJob, SampleLine
from raybench.config.evals import EvalConfig
from raybench.config.read import load
from raybench.errors import ConfigError, RowsError
from raybench.evals import eval_of, presets_of
from raybench.evals.grade import outcomes
from raybench.evals.rows import read_rows, rows_of
from raybench.evals.specs import answer_key
from raybench.plan.expand import expand
from raybench.records import EvalUnit

COLUMNS = {"question": "Problem", "answer": "Answer", "id": "Id"}


def _settings(
    grader: str = "integer", name: str = "my-exam", columns: object = COLUMNS, **changes: object
) -> EvalConfig:
    content: dict[str, object] = {
        "name": name, "rows": "rows.jsonl", "sampling": {"temperature": 0.7, "max_tokens": 64},
        "custom": {"columns": columns, "grader": grader},
    }  # fmt: skip
    return EvalConfig.model_validate(content | changes)


def _rows(folder: Path, *answers: str, **more: str) -> Path:
    path = folder / "rows.jsonl"
    rows = [{"Problem": f"Question {n}?", "Answer": a, "Id": f"x{n}"} | more for n, a in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("grader", "answer", "gold", "reply", "asked"),
    [
        ("integer", "070", "70", r"\boxed{70}", "\\boxed{}"),
        ("letter", "(g)", "G", '{"answer": "G"}', "`answer` field"),
        ("math", r"\frac{2}{4}", "1/2", r"\boxed{0.5}", "\\boxed{}"),
        ("exact", " New  York ", "New York", r"\boxed{\text{New York}}", "\\boxed{}"),
    ],
)
def test_every_grader_by_its_name(tmp_path: Path, grader: str, answer: str, gold: str, reply: str, asked: str) -> None:
    evaluation = eval_of(_settings(grader))
    (row,) = read_rows(evaluation, str(_rows(tmp_path, answer))).rows
    question = evaluation.ask(row, 0, 0)
    assert (question.question, question.gold, question.letter_order) == ("x0", gold, None)
    text = question.messages[0].content
    assert text.startswith("Question 0?\n") and asked in text
    value = evaluation.extract(reply, "stop").value
    assert value is not None and evaluation.agree(value, gold) is True
    other = evaluation.extract(
        reply.replace("70", "71").replace("G", "H").replace("0.5", "0.6").replace("N", "M"), "stop"
    )
    assert other.value is not None and evaluation.agree(other.value, gold) is False


def test_a_request_of_ones_own(tmp_path: Path) -> None:
    custom = {"columns": COLUMNS, "grader": "integer", "request": "End with `Answer: N`."}
    evaluation = eval_of(_settings(custom=custom))
    (row,) = read_rows(evaluation, str(_rows(tmp_path, "7"))).rows
    assert evaluation.ask(row, 0, 0).messages[0].content == "Question 0?\nEnd with `Answer: N`."


def test_wrong_options_are_shuffled_with_the_right_one(tmp_path: Path) -> None:
    evaluation = eval_of(_settings("letter", columns=COLUMNS | {"wrong": ["Bad", "Worse"]}))
    (row,) = read_rows(evaluation, str(_rows(tmp_path, "apple", Bad="iron", Worse="sand"))).rows
    questions = [evaluation.ask(row, repeat, 0) for repeat in range(20)]
    for question in questions:
        lines = question.messages[0].content.splitlines()[2:5]
        assert lines["ABC".index(question.gold)].endswith(") apple")
        assert sorted(line[3:] for line in lines) == ["apple", "iron", "sand"]
    assert {question.gold for question in questions} == set("ABC")
    assert evaluation.extract("Answer: D", "stop").value is None


def test_only_the_named_columns_are_read(tmp_path: Path) -> None:
    evaluation = eval_of(_settings())
    path = tmp_path / "rows.jsonl"
    path.write_text('{"Problem": "Right?", "Answer": "7", "Id": "a", "question": "another", "answer": "8"}\n')
    assert read_rows(evaluation, str(path)).rows[0] == {"question": "Right?", "answer": "7", "id": "a"}
    path.write_text('{"question": "another", "Answer": "7", "Id": "a"}\n')
    with pytest.raises(RowsError, match=r"my-exam: .* has no column 'Problem'; it has: question, Answer, Id"):
        read_rows(evaluation, str(path))


@pytest.mark.parametrize(
    ("grader", "answer", "words"),
    [
        ("integer", "two", "my-exam: the rows hold an answer that is not an integer"),
        ("letter", "K", "my-exam: the rows hold an answer that is no letter A to J"),
        ("math", "x" * 400, "my-exam: the rows hold an answer that is no short expression"),
        ("exact", "**", "my-exam: the rows hold an answer of nothing but markup"),
    ],
)
def test_an_answer_that_the_grader_cannot_give_is_refused(tmp_path: Path, grader: str, answer: str, words: str) -> None:
    evaluation = eval_of(_settings(grader))
    (row,) = read_rows(evaluation, str(_rows(tmp_path, answer))).rows
    with pytest.raises(RowsError, match=words):
        evaluation.ask(row, 0, 0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="'sums' is a built-in eval; give the custom one another name"):
        eval_of(_settings(name="sums"))
    for rows in ("default", "synthetic"):
        with pytest.raises(ValidationError, match="a custom eval has no rows of its own"):
            _settings(rows=rows)
    with pytest.raises(ValidationError, match=r"custom\.columns\.wrong belongs to the grader letter"):
        _settings("math", columns=COLUMNS | {"wrong": ["Bad"]})
    with pytest.raises(ValidationError, match="grader"):
        _settings("guess")


STUDY = """\
name: own
model: {{path: owner/model}}
targets: [{{name: h200, accelerator: CPU}}]
engine:
  kind: simulated
  simulated: {{prefill_tok_per_s: {{1: 4000}}, itl_ms: {{1: 2}}}}
evals:
  - name: my-exam
    rows: {rows}
    preset: card
    repeats: 2
    block_size: 100
    custom:
      columns: {{question: Problem, answer: Answer, id: Id}}
      grader: {grader}
"""


@pytest.mark.parametrize(
    ("grader", "answers"),
    [("integer", ("7", "-70", "1,070")), ("letter", ("A", "d", "H")), ("math", (r"\frac{2}{3}", "(1,2)", r"x+1")),
     ("exact", ("Paris", "New York", "a b"))],
)  # fmt: skip
@pytest.mark.parametrize("accuracy", [1.0, 0.0])
def test_from_the_yaml_through_a_simulated_engine_to_the_outcomes(
    tmp_path: Path, grader: str, answers: tuple[str, ...], accuracy: float
) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(STUDY.format(rows=_rows(tmp_path, *answers), grader=grader))
    settings = load(config, presets=presets_of)
    units = [unit for unit in expand(settings, rows_of(settings.evals)).units if isinstance(unit, EvalUnit)]
    unit, samples = units[0], tuple(sample for unit in units for sample in unit.samples)
    assert len(samples) == 6
    lines: list[SampleLine] = []
    model = timing(accuracy={"my-exam": accuracy}, time_scale=50.0)
    with running(tmp_path, model, answer_key(samples)) as (_, facts):
        job = ChatJob(
            url=facts.url, api_key=None, model="owner/simulated-model", unit=unit.key, target="h200", eval=unit.eval,
            samples=samples, sampling=unit.sampling, concurrency=4, timeout_s=60, time_scale=50.0,
        )  # fmt: skip
        asyncio.run(run_chat(job, lines.append))
    graded = outcomes([line.result for line in lines], eval_of(settings.evals[0]))
    assert len(graded) == 6
    if accuracy == 1.0:
        assert set(graded.values()) == {"correct"}
    else:
        assert "correct" not in graded.values() and "errored" not in graded.values()
