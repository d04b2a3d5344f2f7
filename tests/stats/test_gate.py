"""The verdict: its rule by hand, and how often it is right over simulated exams."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
from exams import AIME_WITHIN, GPQA_WITHIN, Counts, Shares, answers, quantile_shares
from scipy import optimize, special, stats

from raybench.config.reference import MeasuredReference
from raybench.records import Sampling
from raybench.stats.gate import Gate, Holding, gate_of, mean_of, smoothed_standard_error, standings

NUM_RUNS = 1500


def measured(counts: Counts, *, paired: bool = True) -> MeasuredReference:
    """A reference with these answers."""
    num_repeats = max(answered for _, answered in counts.values())
    return MeasuredReference(
        eval="aime25", target="h200", model="org/model", engine="sglang", engine_version="0.5.21", accelerator="H200",
        prompts_sha256="0" * 64, sampling=Sampling(temperature=0.7, max_tokens=16384), repeats=num_repeats,
        num_questions=len(counts), num_scored=num_repeats * len(counts), score=mean_of(counts),
        standard_error=smoothed_standard_error(counts), questions=counts if paired else {}, date="2026-01-01",
        run_id="accepted-1", raybench_version="0.1.0",
    )  # fmt: skip


def _gate(counts: Counts, known: float | MeasuredReference, margin: float = 0.05) -> Gate:
    if isinstance(known, MeasuredReference):
        found = gate_of(counts, Holding(reference=known, gate="reference", margin=margin))
    else:
        found = gate_of(counts, Holding(published=known, gate="published", margin=margin))
    assert found is not None
    return found


def _alike(correct: int, num_repeats: int, num_questions: int = 30) -> Counts:
    return {f"q{number:03}": (correct, num_repeats) for number in range(num_questions)}


# ------------------------------------------------------------------------------------------------------------ the rule


def test_bounds_by_hand() -> None:
    counts = _alike(12, 16)
    gate = _gate(counts, 0.70)
    share = 13 / 18
    half = stats.norm.ppf(0.95) * sqrt(share * (1 - share) / 480)
    assert (gate.difference, gate.lower, gate.upper) == pytest.approx((0.05, 0.05 - half, 0.05 + half))
    assert (gate.verdict, gate.against, gate.reference_standard_error) == ("PASS", "published", 0)


def test_the_references_own_error_is_added_in_quadrature() -> None:
    own, theirs = _alike(12, 16), _alike(12, 32)
    for paired in (True, False):
        gate = _gate(own, measured(theirs, paired=paired))
        halves = [stats.norm.ppf(0.95) * smoothed_standard_error(each) for each in (own, theirs)]
        assert gate.upper - gate.difference == pytest.approx(sqrt(halves[0] ** 2 + halves[1] ** 2))
        assert gate.num_paired == (30 if paired else None)
        assert gate.reference_standard_error == pytest.approx(smoothed_standard_error(theirs))


def test_item_data_pair_the_questions_that_both_answered() -> None:
    own = {"a": (8, 8), "b": (4, 8), "c": (0, 8)}
    theirs = {"b": (8, 16), "c": (4, 16), "d": (16, 16)}
    gate = _gate(own, measured(theirs))
    assert gate.num_paired == 2
    assert gate.difference == pytest.approx((0.5 - 0.5 + 0 - 0.25) / 2)
    nothing_shared = _gate({"x": (4, 8)}, measured(theirs))
    assert nothing_shared.num_paired is None


@pytest.mark.parametrize(
    ("correct", "num_repeats", "reference", "margin", "verdict"),
    [
        (22, 32, 0.70, 0.05, "PASS"),  # 68.8%: lower, and not by the margin
        (20, 32, 0.70, 0.05, "FAIL"),  # 62.5%
        (21, 32, 0.70, 0.05, "FAIL"),  # 65.6%, upper bound below 0 and more than half of the margin below
        (10, 16, 0.65, 0.05, "INCONCLUSIVE"),  # -2.5 points, with an error of 2.2
        (10, 16, 0.66, 0.05, "INCONCLUSIVE"),  # -3.5 points, upper bound still above 0
        (22, 32, 0.6875, 0.0, "INCONCLUSIVE"),
        (30, 32, 0.70, 0.0, "PASS"),
    ],
)
def test_the_rule(correct: int, num_repeats: int, reference: float, margin: float, verdict: str) -> None:
    assert _gate(_alike(correct, num_repeats), reference, margin).verdict == verdict


def test_a_loss_within_the_margin_that_is_sure_passes() -> None:
    gate = _gate(_alike(670, 1000, 200), 0.70)
    assert gate.upper < 0
    assert gate.difference < -gate.margin / 2
    assert gate.verdict == "PASS"


def test_asked_once_the_bounds_are_wilsons() -> None:
    counts: Counts = {f"q{n}": (int(n < 21), 1) for n in range(30)}
    gate = _gate(counts, 0.703)
    low, high = stats.binomtest(21, 30).proportion_ci(0.90, method="wilson")
    assert (gate.lower, gate.upper) == pytest.approx((low - 0.703, high - 0.703))
    assert gate.verdict == "INCONCLUSIVE"
    assert gate.repeats_needed is not None
    assert gate.repeats_needed >= 16


def test_the_number_of_repeats_decides_if_the_difference_stays() -> None:
    for reference, word in ((0.64, "PASS"), (0.66, "FAIL")):
        gate = _gate(_alike(10, 16), reference)
        assert gate.verdict == "INCONCLUSIVE"
        assert gate.repeats_needed is not None and 16 < gate.repeats_needed < 100
        eighths = -(-gate.repeats_needed // 8)
        more = _gate(_alike(5 * eighths, 8 * eighths), reference)
        assert more.verdict == word


def test_in_stages_the_repeats_decide_at_the_level_of_the_stages() -> None:
    """At 95% the lower bound of 16 repeats would need fewer than at 99%, and would not decide there."""

    def held(counts: Counts, reference: float, confidence: float) -> Gate:
        found = gate_of(counts, Holding(published=reference, gate="published", confidence=confidence))
        assert found is not None
        return found

    for reference, word in ((0.64, "PASS"), (0.66, "FAIL")):
        once, staged = held(_alike(10, 16), reference, 0.95), held(_alike(10, 16), reference, 0.99)
        assert (once.confidence, staged.confidence) == (0.95, 0.99)
        assert once.repeats_needed is not None and staged.repeats_needed is not None
        assert once.repeats_needed < staged.repeats_needed
        # In eighths, for the share to stay 5 of 8.
        eighths = -(-staged.repeats_needed // 8)
        assert held(_alike(5 * eighths, 8 * eighths), reference, 0.99).verdict == word
        eighths = once.repeats_needed // 8
        assert held(_alike(5 * eighths, 8 * eighths), reference, 0.99).verdict == "INCONCLUSIVE"


def test_gates_of_older_reports_are_of_one_look() -> None:
    found = _gate(_alike(12, 16), 0.70).model_dump()
    del found["confidence"]
    assert Gate.model_validate(found).confidence == 0.95


def test_a_coarse_reference_is_told_apart_from_too_few_repeats() -> None:
    coarse = _gate(_alike(7, 16), measured(_alike(1, 2, 10), paired=False), 0.02)
    assert (coarse.verdict, coarse.repeats_needed) == ("INCONCLUSIVE", None)
    exact = _gate(_alike(7, 16), 0.5, 0.02)
    assert exact.verdict == "FAIL"


def test_without_margin_and_difference_nothing_decides() -> None:
    assert _gate(_alike(8, 16), 0.5, 0.0).repeats_needed is None


def test_what_does_not_gate_is_shown_with_a_two_sided_interval() -> None:
    counts, reference = _alike(12, 16), measured(_alike(11, 16))
    holding = Holding(published=0.703, reference=reference, gate="reference")
    [shown] = standings(counts, holding)
    assert (shown.against, shown.reference) == ("published", 0.703)
    half = stats.norm.ppf(0.975) * smoothed_standard_error(counts)
    assert (shown.low, shown.high) == pytest.approx((0.047 - half, 0.047 + half))
    both = standings(counts, Holding(published=0.703, reference=reference, gate="none"))
    assert [each.against for each in both] == ["reference", "published"]
    assert gate_of(counts, Holding(published=0.703, reference=reference, gate="none")) is None
    assert gate_of(counts, Holding(gate="reference")) is None


# ------------------------------------------------------------------------------------------------------- simulated runs


def _verdicts(shares: Shares, drop: float, num_repeats: int, margin: float, reference_repeats: int = 0) -> Counter[str]:
    """Shares of the verdicts; a reference without repeats is exact."""
    draw = np.random.default_rng(3)
    fallen = _dropped(shares, drop)
    seen: Counter[str] = Counter()
    for _ in range(NUM_RUNS):
        known = measured(answers(draw, shares, reference_repeats)) if reference_repeats else float(shares.mean())
        seen[_gate(answers(draw, fallen, num_repeats), known, margin).verdict] += 1
    return Counter({word: number / NUM_RUNS for word, number in seen.items()})  # pyright: ignore[reportArgumentType]


def _dropped(shares: Shares, drop: float) -> Shares:
    """The same questions for a weaker model: every logit lowered alike, so that the mean falls by `drop`."""
    if drop == 0:
        return shares
    logits = special.logit(np.clip(shares, 1e-9, 1 - 1e-9))
    by = optimize.brentq(lambda step: special.expit(logits - step).mean() - (shares.mean() - drop), 0, 20)
    return special.expit(logits - by)


AIME = quantile_shares(0.70, 30, AIME_WITHIN)
GPQA = quantile_shares(0.775, 198, GPQA_WITHIN)


def test_the_simulated_exams_are_like_the_real_ones() -> None:
    assert (AIME * (1 - AIME)).mean() == pytest.approx(0.09, abs=0.01)
    assert (GPQA * (1 - GPQA)).mean() == pytest.approx(0.10, abs=0.01)


def test_aime_without_a_drop_passes() -> None:
    seen = _verdicts(AIME, 0.0, 16, 0.05)
    assert seen["PASS"] >= 0.91
    assert seen["FAIL"] <= 0.055


def test_aime_five_points_down_fails() -> None:
    seen = _verdicts(AIME, 0.05, 16, 0.05)
    assert seen["FAIL"] >= 0.93
    assert seen["PASS"] <= 0.05


def test_aime_ten_points_down_always_fails() -> None:
    assert _verdicts(AIME, 0.10, 16, 0.05)["FAIL"] >= 0.995


def test_aime_asked_once_is_inconclusive() -> None:
    assert _verdicts(AIME, 0.0, 1, 0.05)["INCONCLUSIVE"] >= 0.86


def test_gpqa_without_a_drop_passes() -> None:
    seen = _verdicts(GPQA, 0.0, 8, 0.03)
    assert seen["PASS"] >= 0.89
    assert seen["FAIL"] <= 0.06


def test_gpqa_three_points_down_fails() -> None:
    assert _verdicts(GPQA, 0.03, 8, 0.03)["FAIL"] >= 0.90


def test_gpqa_five_points_down_always_fails() -> None:
    assert _verdicts(GPQA, 0.05, 8, 0.03)["FAIL"] >= 0.99


def test_the_default_repeats_make_up_for_the_error_of_a_measured_reference() -> None:
    """Twice the variance, twice the repeats: 32 against a reference of 32 is as sure as 16 against an exact one."""
    seen = _verdicts(AIME, 0.0, 32, 0.05, reference_repeats=32)
    assert seen["PASS"] >= 0.91
    assert _verdicts(AIME, 0.05, 32, 0.05, reference_repeats=32)["FAIL"] >= 0.91
