"""Prompts: exact lengths, distinct first tokens, the same for ever."""

import hashlib
import json

import pytest

from raybench.load.prompts import one_batch_prompts, pass_seed, token_bounds
from raybench.records import OneBatchLoad


def load(batch_size: int = 8, input_tokens: int = 33) -> OneBatchLoad:
    return OneBatchLoad(batch_size=batch_size, input_tokens=input_tokens, output_tokens=2)


@pytest.mark.parametrize(
    ("batch_size", "input_tokens", "vocab"), [(1, 1, 300), (8, 33, 512), (64, 5, 151_936), (19, 9, 21)]
)
def test_shape_bounds_and_first_tokens(batch_size: int, input_tokens: int, vocab: int) -> None:
    prompts = one_batch_prompts(load(batch_size, input_tokens), 7, vocab)
    low, high = token_bounds(vocab)
    assert [len(prompt) for prompt in prompts] == [input_tokens] * batch_size
    assert len({prompt[0] for prompt in prompts}) == batch_size
    assert all(low <= token < high for prompt in prompts for token in prompt)


def test_the_prompts_of_a_seed_never_change() -> None:
    # The digest was taken once: a ledger's keys stand for these very tokens.
    text = json.dumps(one_batch_prompts(load(), 42, 151_936)).encode()
    assert hashlib.sha256(text).hexdigest()[:16] == "7de39422b11e5b1d"


def test_seeds_make_other_prompts() -> None:
    assert one_batch_prompts(load(), 1, 5000) != one_batch_prompts(load(), 2, 5000)


def test_tokens_are_spread_over_the_whole_vocabulary() -> None:
    tokens = [token for prompt in one_batch_prompts(load(16, 2000), 3, 1100) for token in prompt]
    assert set(tokens) == set(range(100, 1100))


def test_special_tokens_are_spared_and_a_tiny_vocabulary_spares_fewer() -> None:
    assert token_bounds(151_936) == (100, 151_936)
    assert token_bounds(80) == (10, 80)


def test_a_vocabulary_smaller_than_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="64 prompts need distinct first tokens, the vocabulary offers 28"):
        one_batch_prompts(load(64), 0, 32)
    with pytest.raises(ValueError, match="nothing to draw from"):
        token_bounds(0)


def test_every_pass_has_its_own_seed_and_the_measured_one_keeps_the_units() -> None:
    seeds = [pass_seed(11, number) for number in range(6)]
    assert seeds[0] == 11
    assert len(set(seeds)) == 6
    assert seeds == [pass_seed(11, number) for number in range(6)]
    assert pass_seed(12, 1) != pass_seed(11, 1)
