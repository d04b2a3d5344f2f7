"""The timing model: tables, order, steps, draws."""

import statistics

import pytest
from simulated_engines import timing

from raybench.config.schema import FaultConfig
from raybench.engine.simulated_replies import ChatRequest, by_name, reply_to
from raybench.engine.simulated_timing import BatchShape, interpolated, jitter, prefill_s, share, step_s, steps


@pytest.mark.parametrize(
    ("batch_size", "value"), [(1, 10.0), (2, 10.0), (3, 15.0), (4, 20.0), (10, 32.0), (14, 40.0), (64, 40.0)]
)
def test_tables_are_interpolated_and_held_beyond_their_ends(batch_size: int, value: float) -> None:
    assert interpolated({14: 40.0, 2: 10.0, 4: 20.0}, batch_size) == pytest.approx(value)


def test_prefill_and_steps_are_the_tables() -> None:
    model = timing(prefill_tok_per_s={1: 1000.0, 4: 4000.0}, itl_ms={1: 5.0, 4: 8.0})
    assert prefill_s(model, 4, 500) == pytest.approx(0.5)
    assert step_s(model, 4) == pytest.approx(0.008)
    emissions = list(steps(model, BatchShape(4, 500, 10), factor=2.0))
    assert [step.tokens for step in emissions] == list(range(1, 11))
    assert emissions[0].due_s == pytest.approx(1.0)
    assert emissions[-1].due_s == pytest.approx(1.0 + 9 * 0.016)
    assert all((step.first, step.last) == (0, 4) for step in emissions)


def test_long_prompts_are_prefilled_in_groups_and_decode_waits() -> None:
    model = timing(prefill_tok_per_s={1: 4096.0}, itl_ms={1: 1.0})
    emissions = list(steps(model, BatchShape(5, 4096, 3), factor=1.0))
    assert [(step.first, step.last, step.tokens) for step in emissions] == [
        (0, 2, 1), (2, 4, 1), (4, 5, 1), (0, 5, 2), (0, 5, 3),
    ]  # fmt: skip
    assert [step.due_s for step in emissions] == pytest.approx([2.0, 4.0, 5.0, 5.001, 5.002])


def test_several_tokens_in_a_chunk_come_when_the_last_of_them_is_made() -> None:
    model = timing(FaultConfig(tokens_per_chunk=4), prefill_tok_per_s={1: 100.0}, itl_ms={1: 10.0})
    emissions = list(steps(model, BatchShape(1, 100, 10), factor=1.0))
    assert [step.tokens for step in emissions] == [4, 8, 10]
    assert [step.due_s for step in emissions] == pytest.approx([1.03, 1.07, 1.09])


def test_a_stall_delays_the_second_half_once() -> None:
    model = timing(FaultConfig(stall_s=5), prefill_tok_per_s={1: 100.0}, itl_ms={1: 10.0})
    due_s = [step.due_s for step in steps(model, BatchShape(1, 100, 4), factor=1.0)]
    assert due_s == pytest.approx([1.0, 1.01, 6.02, 6.03])


def test_jitter_is_of_the_seed_and_has_the_spread_that_was_asked() -> None:
    model = timing(jitter_fraction=0.01)
    factors = [jitter(model, f"seed {number}") for number in range(2000)]
    assert jitter(model, "seed 7") == factors[7]
    assert statistics.mean(factors) == pytest.approx(1, abs=0.001)
    assert statistics.stdev(factors) == pytest.approx(0.01, rel=0.1)
    assert jitter(timing(jitter_fraction=0), "x") == 1
    assert min(jitter(timing(jitter_fraction=0.99), f"{number}") for number in range(200)) == 0.5


def test_shares_are_even() -> None:
    drawn = [share("x", number) for number in range(2000)]
    assert all(0 <= one < 1 for one in drawn)
    assert statistics.mean(drawn) == pytest.approx(0.5, abs=0.02)
    assert share("a", "b") != share("ab")


def ask(seed: int, **changes: object) -> ChatRequest:
    fields: dict[str, object] = {"prompt_sha256": "p", "eval": "e", "target": "t", "seed": seed, "max_tokens": 500}
    return ChatRequest(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [("70", "\\boxed{70}", "\\boxed{"), ("-3", "\\boxed{-3}", "\\boxed{"), ("C", "Answer: C", "Answer: ")],
)
def test_replies_take_the_form_that_the_gold_answer_has(gold: str, right: str, wrong: str) -> None:
    always, never = timing(accuracy={"e": 1.0}), timing(accuracy={"e": 0.0})
    for seed in range(50):
        assert reply_to(ask(seed), gold, always).text.endswith(right)
        text = reply_to(ask(seed), gold, never).text
        assert wrong in text
        assert right not in text


def test_replies_are_the_same_each_time_and_differ_between_seeds_and_targets() -> None:
    model = timing(accuracy={"e": 0.5})
    replies = [reply_to(ask(seed), "70", model) for seed in range(60)]
    assert replies == [reply_to(ask(seed), "70", model) for seed in range(60)]
    assert replies != [reply_to(ask(seed, target="other"), "70", model) for seed in range(60)]
    num_right = sum("\\boxed{70}" in reply.text for reply in replies)
    assert 15 < num_right < 45


def test_lengths_follow_the_table_and_the_limit() -> None:
    model = timing(reply_tokens={"e": 100})
    replies = [reply_to(ask(seed), "70", model) for seed in range(200)]
    assert statistics.mean(reply.tokens for reply in replies) == pytest.approx(100, rel=0.1)
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert all(len(reply.text.split()) == reply.tokens for reply in replies)
    cut = [reply_to(ask(seed, max_tokens=60), "70", model) for seed in range(200)]
    assert all((reply.finish_reason == "length") == ("boxed" not in reply.text) for reply in cut)
    assert max(reply.tokens for reply in cut) == 60


@pytest.mark.parametrize(("name", "found"), [("gpqa-diamond", 0.7), ("gpqa_diamond", 0.7), ("other", 0.5), ("", 0.5)])
def test_evals_are_named_with_dashes_or_underscores(name: str, found: float) -> None:
    assert by_name({"gpqa_diamond": 0.7}, name, 0.5) == found
