"""Several looks under one error rate, and the gate under it, simulated."""

import random
from collections.abc import Sequence

import pytest

from raybench.records import Outcome
from raybench.stats.accuracy import score
from raybench.stats.distributions import normal_quantile
from raybench.stats.gate import Holding
from raybench.stats.looks import crossing_probability, pocock_level


@pytest.mark.parametrize(("num_looks", "constant"), [(2, 1.875), (3, 1.992), (4, 2.067), (5, 2.122)])
def test_even_looks_give_pococks_constants(num_looks: int, constant: float) -> None:
    """Pocock (1977), two-sided 10%: one-sided 5%."""
    level = pocock_level(range(1, num_looks + 1), 0.05)
    assert normal_quantile(1 - level) == pytest.approx(constant, abs=0.001)


def test_one_look_has_the_whole_level() -> None:
    assert pocock_level([16], 0.05) == pytest.approx(0.05, abs=1e-4)


def test_uneven_looks_lie_between_the_bonferroni_split_and_the_whole() -> None:
    level = pocock_level([4, 8, 16], 0.05)
    assert 0.05 / 3 < level < 0.05
    assert crossing_probability([4, 8, 16], normal_quantile(1 - level)) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("looks", [[], [0, 1], [4, 4], [8, 4]])
def test_looks_must_grow(looks: list[int]) -> None:
    with pytest.raises(ValueError, match="grows"):
        pocock_level(looks)


STAGES = (4, 8, 16)
NUM_QUESTIONS = 30
NUM_RUNS = 400


def _early_verdict(rng: random.Random, chances: Sequence[float], baseline: float, confidence: float) -> str:
    """What a run in stages comes to, by the gate that a report uses."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    verdict = "INCONCLUSIVE"
    for first, last in zip((0, *STAGES), STAGES, strict=False):
        for question, chance in enumerate(chances):
            for repeat in range(first, last):
                outcomes[str(question), repeat] = "correct" if rng.random() < chance else "incorrect"
        gate = score(outcomes, outcomes.keys(), Holding(baseline, None, "published", 0.05, confidence)).gate
        assert gate is not None
        verdict = gate.verdict
        if verdict != "INCONCLUSIVE":
            break
    return verdict


def _chances(mean: float) -> list[float]:
    """An exam with a variance within questions of about .09: some questions are always missed, some never, and the
    middle ones take up what the rounding to whole questions has left over."""
    settled = 0.57
    num_never, num_always = round(settled * (1 - mean) * NUM_QUESTIONS), round(settled * mean * NUM_QUESTIONS)
    num_middle = NUM_QUESTIONS - num_never - num_always
    middle = (mean * NUM_QUESTIONS - num_always) / num_middle
    return [0.0] * num_never + [middle] * num_middle + [1.0] * num_always


def test_looking_three_times_errs_no_more_often_than_looking_once() -> None:
    """At a true loss of the whole margin PASS is an error, at none FAIL is; each at most at 5% over all looks together.
    Three standard errors of 400 runs are 3.3 points."""
    confidence = 1 - pocock_level(STAGES, 0.05)
    rng = random.Random(7)
    chances = _chances(0.70)
    lost = [_early_verdict(rng, chances, 0.75, confidence) for _ in range(NUM_RUNS)]
    kept = [_early_verdict(rng, chances, 0.70, confidence) for _ in range(NUM_RUNS)]
    assert lost.count("PASS") / NUM_RUNS <= 0.05 + 0.033
    assert kept.count("FAIL") / NUM_RUNS <= 0.05 + 0.033
    assert kept.count("PASS") / NUM_RUNS >= 0.75, "the plan must still be able to pass a healthy target"


def test_looking_three_times_at_the_whole_level_would_err_too_often() -> None:
    """What the split is for: a boundary of 5% at each of three looks errs twice as often in all."""
    assert crossing_probability([4, 8, 16], normal_quantile(0.95)) == pytest.approx(0.107, abs=0.01)
