"""From rows to the samples of a plan."""

import pytest
from pydantic import JsonValue

from raybench.config.evals import EvalConfig
from raybench.errors import RowsError
from raybench.evals import EVALS
from raybench.evals.base import Rows
from raybench.evals.rows import read_rows
from raybench.evals.specs import answer_key, request_seed, sample_specs
from raybench.records import SampleSpec, prompt_hash

IDENTITY: dict[str, JsonValue] = {"target": "alpha", "version": "0.5.21"}


def _config(**changes: object) -> EvalConfig:
    sampling = {"temperature": 0.7, "max_tokens": 64}
    return EvalConfig.model_validate({"name": "gpqa_diamond", "sampling": sampling, "repeats": 3, "limit": 5} | changes)


def _specs(config: EvalConfig | None = None, run_seed: int = 0, **identity: JsonValue) -> tuple[SampleSpec, ...]:
    evaluation = EVALS["gpqa_diamond"]
    return sample_specs(
        evaluation, read_rows(evaluation, "synthetic"), config or _config(), run_seed, IDENTITY | identity
    )


def test_questions_come_one_after_the_other_with_their_repeats() -> None:
    specs = _specs()
    assert [(s.question, s.repeat) for s in specs[:4]] == [
        ("synthetic-001", 0), ("synthetic-001", 1), ("synthetic-001", 2), ("synthetic-002", 0)
    ]  # fmt: skip
    assert len(specs) == 15
    assert len({s.key for s in specs}) == len({s.seed for s in specs}) == 15
    assert all(0 <= s.seed < 2**31 for s in specs)
    assert len({s.letter_order for s in specs}) > 3


def test_the_same_arguments_give_the_same_samples() -> None:
    assert _specs() == _specs()


def test_no_limit_takes_every_row_and_a_limit_beyond_them_too() -> None:
    assert len(_specs(_config(limit=None, repeats=1))) == 198
    assert len(_specs(_config(limit=1000, repeats=1))) == 198


@pytest.mark.parametrize(
    ("config", "run_seed", "identity"),
    [
        (_config(sampling={"temperature": 0.6, "max_tokens": 64}), 0, {}),
        (_config(sampling={"temperature": 0.7, "max_tokens": 65}), 0, {}),
        (_config(), 1, {}),
        (_config(), 0, {"version": "0.5.23"}),
        (_config(), 0, {"target": "beta"}),
    ],
)
def test_a_key_changes_with_what_is_measured(config: EvalConfig, run_seed: int, identity: dict[str, JsonValue]) -> None:
    assert not {s.key for s in _specs()} & {s.key for s in _specs(config, run_seed, **identity)}


@pytest.mark.parametrize(
    "changes", [{"baseline": 0.5}, {"margin": 0.01}, {"concurrency": 1}, {"block_size": 3}, {"timeout_s": 9}]
)
def test_a_key_does_not_change_with_how_it_is_judged_or_sent(changes: dict[str, object]) -> None:
    assert _specs(_config(**changes)) == _specs()


def test_more_repeats_or_questions_keep_the_keys_of_those_before() -> None:
    assert {s.key for s in _specs()} < {s.key for s in _specs(_config(repeats=4))}
    assert {s.key for s in _specs()} < {s.key for s in _specs(_config(limit=6))}


def test_a_changed_prompt_has_another_key() -> None:
    evaluation, config = EVALS["aime25"], _config(name="aime25", repeats=1)
    one = Rows(({"id": "a", "problem": "What is 1 + 1?", "answer": "2"},), "x", "")
    two = Rows(({"id": "a", "problem": "What is 1+1?", "answer": "2"},), "x", "")
    assert sample_specs(evaluation, one, config, 0, {})[0].key != sample_specs(evaluation, two, config, 0, {})[0].key


def test_two_rows_with_one_id_are_refused() -> None:
    rows = Rows(tuple({"id": "a", "problem": text, "answer": "2"} for text in ("x", "y")), "own.jsonl", "")
    with pytest.raises(RowsError, match=r"own\.jsonl: rows 1 and 2 have the same id 'a'"):
        sample_specs(EVALS["aime25"], rows, _config(name="aime25"), 0, {})


def test_an_answer_that_is_no_integer_is_refused() -> None:
    rows = Rows(({"problem": "x", "answer": "two"},), "own.jsonl", "")
    with pytest.raises(RowsError, match="not an integer: 'two'"):
        sample_specs(EVALS["aime25"], rows, _config(name="aime25"), 0, {})


def test_the_seed_depends_on_eval_question_repeat_and_run() -> None:
    sums, aime = EVALS["sums"], EVALS["aime25"]
    seeds = [
        request_seed(sums, "a", 0, 0), request_seed(sums, "b", 0, 0), request_seed(sums, "a", 1, 0),
        request_seed(sums, "a", 0, 1), request_seed(aime, "a", 0, 0),
    ]  # fmt: skip
    assert len(set(seeds)) == 5


def test_the_answer_key_knows_every_prompt() -> None:
    specs = _specs()
    key = answer_key(specs)
    assert all(key[prompt_hash(s.messages)] == s.gold for s in specs)
    assert all(len(sha256) == 64 for sha256 in key)
