"""Findings about replies, prompts, nodes, repeats and places, each made to happen, and none on a sound run."""

import random
from collections.abc import Callable

import pytest
from ledger_builder import LedgerBuilder, config, whole_ledger
from pydantic import JsonValue
from sick_evals import LOOPING, on_alpha, repeated, words

from raybench.ledger.bodies import STOP_EVAL, STOP_REPEATS, Decision
from raybench.records import Finding, SampleRecord
from raybench.report.summary import make_report
from raybench.validity.accuracy import scored_evals
from raybench.validity.counterfactual import counterfactual
from raybench.validity.eval_checks import checked_evals, eval_findings


def found_in(builder: LedgerBuilder) -> list[Finding]:
    return eval_findings(checked_evals(builder.view()))


def test_a_sound_run_with_repeats_has_no_finding() -> None:
    assert found_in(whole_ledger(config(evals=repeated()))) == []


@pytest.mark.parametrize(
    ("changes", "code", "severity", "advice"),
    [
        ({"reply": f"{LOOPING}\nAnswer: 1"}, "looping", "warn", "temperature and penalties"),
        ({"reply": f"Answer: 1\n\nUser: {words(9, 1)}"}, "run_on", "warn", "wrong chat template"),
        ({"matched_stop": "Question:"}, "stray_stop", "warn", "'Question:' among them"),
        ({"reply": "", "reasoning_chars": 900}, "thoughts_only", "red", "without --reasoning-parser"),
    ],
)
def test_replies_that_go_wrong(changes: dict[str, object], code: str, severity: str, advice: str) -> None:
    [finding] = [f for f in found_in(whole_ledger(sample=on_alpha(**changes))) if f.code == code]
    assert (finding.severity, finding.target) == (severity, "alpha")
    assert advice in finding.advice
    assert finding.rule.startswith("sums: ")


def test_a_token_that_ends_a_turn_is_no_stray_stop_word() -> None:
    assert found_in(whole_ledger(sample=on_alpha(matched_stop=151645, reasoning_chars=40))) == []


def _long(sample: SampleRecord, tokens: int) -> SampleRecord:
    text = f"{words(40, sample.key)}\n{sample.reply}"
    return sample.model_copy(update={"reply": text, "output_tokens": tokens})


def test_long_replies_of_one_length_were_cut_by_something() -> None:
    settings = config(evals=repeated(sampling={"temperature": 0.7, "max_tokens": 4096}))
    same = whole_ledger(settings, sample=lambda s: _long(s, 512 if s.repeat % 3 == 0 else 200 + s.seed * 8 + s.repeat))
    assert {f.code for f in found_in(same)} == {"same_length"}
    [alpha, _] = found_in(same)
    assert alpha.severity == "red" and alpha.evidence["length_tokens"] == 512
    other = whole_ledger(settings, sample=lambda s: _long(s, 200 + s.seed * 8 + s.repeat))
    assert found_in(other) == []


def test_unreadable_replies_are_red_where_the_eval_would_have_been_stopped() -> None:
    change = on_alpha(reply="which makes it seven")
    [finding] = found_in(whole_ledger(sample=change))
    assert (finding.code, finding.severity) == ("unparsed", "red")
    off = config(evals=repeated("sums", 1, stop_rules={"unparsed": None}))
    [finding] = found_in(whole_ledger(off, sample=change))
    assert (finding.code, finding.severity) == ("unparsed", "warn")


def two_nodes(change: Callable[[SampleRecord, str], SampleRecord], repeats: int = 8) -> LedgerBuilder:
    """One target whose blocks n0 and n1 answer in turn."""
    targets: JsonValue = [{"name": "alpha", "accelerator": "H200", "nodes": 2}]
    builder = LedgerBuilder(config(targets=targets, evals=repeated(repeats=repeats, block_size=7), perf=[]))
    builder.session()
    builder.planned()
    for number in range(2):
        builder.node("alpha", number)
        builder.engine("alpha", f"n{number}.0")
    for number, unit in enumerate(builder.plan.units):
        node = f"n{number % 2}"
        assert unit.kind == "eval"
        builder.eval_done(unit, f"{node}.0", lambda s, node=node: change(s, node))
    builder.end()
    return builder


def test_a_system_prompt_on_one_node_is_seen_by_the_servers_own_count() -> None:
    builder = two_nodes(lambda s, node: s.model_copy(update={"prompt_tokens": 40 if node == "n1" else 12}))
    [finding] = found_in(builder)
    assert (finding.code, finding.severity) == ("prompt_tokens_differ", "red")
    assert finding.evidence["largest_difference_tokens"] == 28
    assert "n1 most often" in finding.advice or "n0 most often" in finding.advice
    assert found_in(two_nodes(lambda s, node: s)) == []


def test_a_system_prompt_on_one_target_is_seen_beside_the_other() -> None:
    [finding] = found_in(whole_ledger(sample=on_alpha(prompt_tokens=40)))
    assert (finding.code, finding.severity, finding.scope) == ("prompt_tokens_differ_between_targets", "warn", "run")
    assert finding.evidence["prompt_tokens_alpha"] == 40 and finding.evidence["prompt_tokens_beta"] == 12


def test_a_node_that_answers_worse_is_named() -> None:
    def spoil(sample: SampleRecord, node: str) -> SampleRecord:
        wrong = random.Random(sample.key).random() < (0.5 if node == "n1" else 0.1)
        return sample.model_copy(update={"reply": "Answer: -1" if wrong else f"Answer: {sample.gold}"})

    [finding] = found_in(two_nodes(spoil))
    assert (finding.code, finding.severity) == ("node_low", "red")
    assert "node n1 answers worse" in finding.advice


def test_an_engine_that_gets_worse_is_seen_over_the_repeats() -> None:
    def spoil(sample: SampleRecord) -> SampleRecord:
        wrong = sample.target == "alpha" and random.Random(sample.key).random() < 0.1 * sample.repeat
        return sample.model_copy(update={"reply": "Answer: -1" if wrong else f"Answer: {sample.gold}"})

    [finding] = found_in(whole_ledger(config(evals=repeated()), sample=spoil))
    assert (finding.code, finding.severity, finding.target) == ("repeats_drift", "warn", "alpha")
    assert finding.evidence["change_per_repeat"] < 0


def test_the_place_of_the_right_option_decides() -> None:
    def only_a(sample: SampleRecord) -> SampleRecord:
        gold = "ABCD"[(sample.repeat + sample.seed) % 4]
        right = gold == "A" if sample.target == "alpha" else random.Random(sample.key).random() < 0.6
        reply = f"Answer: {gold if right else 'ABCD'[('ABCD'.index(gold) + 1 + sample.seed % 3) % 4]}"
        return sample.model_copy(update={"gold": gold, "reply": reply})

    found = found_in(whole_ledger(config(evals=repeated("gpqa_diamond")), sample=only_a))
    assert "position_bias" in [f.code for f in found if f.target == "alpha"]
    assert [f.code for f in found if f.target == "beta"] == []


# ------------------------------------------------------------------------------------------------------------- rulings


def ruled(what: str, numbers: dict[str, float], **changes: JsonValue) -> LedgerBuilder:
    """The second block of alpha was dropped."""
    settings = config(evals=repeated(repeats=2, block_size=40, baseline=0.9, gate="published", margin=0.15, **changes))
    builder = whole_ledger(settings, skip=lambda key: key == "alpha-sums-1")
    builder.add(
        "decision",
        Decision(what=what, target="alpha", eval="sums", reason="9 of 40 were cut", rule="stop_truncated",
                 numbers=numbers, dropped=("alpha-sums-1",)),
    )  # fmt: skip
    return builder


def test_a_stopped_eval_is_red_and_gets_no_verdict() -> None:
    builder = ruled(STOP_EVAL, {"num_truncated": 9.0})
    [finding] = found_in(builder)
    assert (finding.code, finding.severity, finding.target) == ("stopped_by_rule", "red", "alpha")
    assert finding.evidence["num_never_asked"] == 40
    assert "9 of 40 were cut; the other 40 samples were not asked" in finding.advice
    alpha, beta = make_report(builder.view()).evals
    assert alpha.accuracy.gate is not None and alpha.accuracy.gate.verdict == "INVALID"
    assert beta.accuracy.gate is not None and beta.accuracy.gate.verdict == "PASS"
    assert builder.view().missing_samples() == ()


def test_repeats_that_ended_early_are_whole() -> None:
    builder = ruled(STOP_REPEATS, {"num_repeats": 1.0})
    alpha, beta = scored_evals(builder.view())
    assert {repeat for _, repeat in alpha.outcomes} == {0}
    assert alpha.score.num_planned == 40 and beta.score.num_planned == 80


# ------------------------------------------------------------------------------------------------------ counterfactual


def test_scores_under_smaller_limits_fall_off_where_the_replies_are_longer() -> None:
    settings = config(evals=repeated("sums", 1, sampling={"temperature": 0, "max_tokens": 16384}))

    def lengthen(sample: SampleRecord) -> SampleRecord:
        tokens = 1500 if sample.seed % 2 else 3000
        return sample.model_copy(
            update={"reply": f"{'x' * 900}\\boxed{{{sample.gold}}}{' ' * 90}", "output_tokens": tokens}
        )

    alpha = next(iter(scored_evals(whole_ledger(settings, sample=lengthen).view())))
    curve = counterfactual(alpha)
    assert curve is not None
    assert [(p.max_tokens, p.score, p.truncated_fraction) for p in curve.points] == [
        (1024, 0.0, 1.0), (2048, 0.5, 0.5), (4096, 1.0, 0.0), (8192, 1.0, 0.0), (16384, 1.0, 0.0)
    ]  # fmt: skip
    assert [p.answer_stood for p in curve.points] == [0, 0, 0, 0, 0]


def test_a_right_answer_that_stood_before_the_cut_is_counted() -> None:
    settings = config(evals=repeated("aime25", 1, sampling={"temperature": 0, "max_tokens": 4096}))

    def run_on(sample: SampleRecord) -> SampleRecord:
        text = f"\\boxed{{{sample.gold}}} {words(300, sample.key)}"
        return sample.model_copy(update={"reply": text, "output_tokens": 4096, "finish_reason": "length"})

    curve = counterfactual(next(iter(scored_evals(whole_ledger(settings, sample=run_on).view()))))
    assert curve is not None
    assert {(p.score, p.truncated_fraction, p.answer_stood) for p in curve.points} == {(0.0, 1.0, 40)}


def test_short_replies_and_unknown_lengths_make_no_curve() -> None:
    long_enough = config(evals=repeated("sums", 1, sampling={"temperature": 0, "max_tokens": 16384}))
    assert counterfactual(next(iter(scored_evals(whole_ledger(long_enough).view())))) is None
    unknown = whole_ledger(long_enough, sample=on_alpha(output_tokens=None))
    assert counterfactual(next(iter(scored_evals(unknown.view())))) is None
    assert counterfactual(next(iter(scored_evals(whole_ledger().view())))) is None
