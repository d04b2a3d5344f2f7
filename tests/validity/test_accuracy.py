"""Every finding about evals, made to happen, and none on a sound run."""

from collections.abc import Callable

import pytest
from ledger_builder import LedgerBuilder, config, whole_ledger
from pydantic import JsonValue

from raybench.records import Finding, SampleRecord
from raybench.report.words import TITLES
from raybench.validity.accuracy import accuracy_findings, scored_evals

Change = Callable[[SampleRecord], SampleRecord]


def _every(number: int, target: str = "alpha", **changes: object) -> Change:
    """Change every n-th question of one target."""

    def change(sample: SampleRecord) -> SampleRecord:
        hit = sample.target == target and int(sample.question[1:]) % number == 0
        return sample.model_copy(update=changes) if hit else sample

    return change


def _eval(name: str = "sums", **changes: JsonValue) -> list[JsonValue]:
    settings: dict[str, JsonValue] = {
        "name": name, "rows": "synthetic", "sampling": {"temperature": 0.7, "max_tokens": 64}, "block_size": 20
    }  # fmt: skip
    return [settings | changes]


def _only(builder: LedgerBuilder) -> Finding:
    found = accuracy_findings(builder.view())
    assert len(found) == 1, [finding.code for finding in found]
    return found[0]


def test_a_sound_run_has_no_finding() -> None:
    assert accuracy_findings(whole_ledger().view()) == []


def test_scores_of_a_sound_run() -> None:
    alpha, beta = scored_evals(whole_ledger().view())
    assert (alpha.target, alpha.config.name, alpha.score.score) == ("alpha", "sums", pytest.approx(0.9))
    assert (beta.target, beta.score.score) == ("beta", pytest.approx(0.95))
    assert len(alpha.samples) == len(alpha.outcomes) == 40
    assert alpha.score.gate is not None
    assert alpha.score.gate.baseline == 0.9


def test_missing_samples_widen_the_bounds_and_are_no_finding() -> None:
    view = whole_ledger(skip=lambda key: key == "alpha-sums-1").view()
    alpha = next(iter(scored_evals(view)))
    assert (alpha.score.num_planned, alpha.score.num_samples) == (40, 20)
    assert alpha.score.best - alpha.score.worst == pytest.approx(0.5)
    assert accuracy_findings(view) == []


def test_a_run_without_a_plan_has_no_scores() -> None:
    builder = LedgerBuilder(config())
    builder.session()
    assert list(scored_evals(builder.view())) == []


def test_truncated() -> None:
    found = _only(whole_ledger(sample=_every(20, finish_reason="length", output_tokens=64)))
    assert (found.code, found.severity, found.scope, found.target) == ("truncated", "red", "target", "alpha")
    assert found.evidence == {"truncated_fraction": 0.05, "num_truncated": 2, "max_tokens": 64}
    assert "raise sampling.max_tokens from 64 to 128 or more" in found.advice
    assert found.rule.startswith("sums: ")


def test_truncated_below_what_the_eval_needs_names_the_number() -> None:
    settings = config(evals=_eval("aime25", sampling={"temperature": 0.7, "max_tokens": 2048}))
    found = _only(whole_ledger(settings, sample=_every(20, finish_reason="length", output_tokens=2048)))
    assert "raise sampling.max_tokens from 2048 to at least 16384" in found.advice


def test_truncated_before_the_limit_is_the_engines() -> None:
    found = _only(whole_ledger(sample=_every(20, finish_reason="length", output_tokens=30)))
    assert found.evidence["longest_cut_reply_tokens"] == 30
    assert "cut at 30 tokens, before sampling.max_tokens (64)" in found.advice
    assert "context" in found.advice


def test_truncated_without_usage_still_names_the_limit() -> None:
    found = _only(whole_ledger(sample=_every(20, finish_reason="length", output_tokens=None)))
    assert "raise sampling.max_tokens" in found.advice


def test_errored() -> None:
    fault = _every(20, status="http_error", reply=None, finish_reason=None, error="503 overloaded\nmore")
    found = _only(whole_ledger(sample=fault))
    assert (found.code, found.severity) == ("errored", "red")
    assert found.evidence == {"errored_fraction": 0.05, "num_errored": 2, "num_http_error": 2}
    assert "run anew (--resume asks only for what is missing" in found.advice
    assert "503 overloaded" in found.advice
    assert "more" not in found.advice


def test_errored_by_timeout_names_the_limit() -> None:
    found = _only(whole_ledger(sample=_every(20, status="timeout", reply=None, finish_reason=None)))
    assert found.evidence["num_timeout"] == 2
    assert "raise timeout_s from 3600 or lower concurrency from 32, and run anew (--resume" in found.advice


def test_aborted_replies_are_counted_by_their_reason() -> None:
    assert _only(whole_ledger(sample=_every(20, finish_reason="abort"))).evidence["num_abort"] == 2


def _resent(num: int, after_s: float | None) -> Change:
    """The first samples of alpha's 160 were answered at the second try."""

    def change(sample: SampleRecord) -> SampleRecord:
        hit = sample.target == "alpha" and 4 * int(sample.question[1:]) + sample.repeat < num
        return sample.model_copy(update={"num_transport_retries": 1, "resent_after_s": after_s}) if hit else sample

    return change


@pytest.mark.parametrize(("num", "severity"), [(2, "warn"), (8, "warn"), (9, "red"), (160, "red")])
def test_resent(num: int, severity: str) -> None:
    found = _only(whole_ledger(config(evals=_eval(repeats=4)), sample=_resent(num, 60.0)))
    assert (found.code, found.severity, found.target) == ("resent", severity, "alpha")
    assert found.evidence == {"resent_fraction": num / 160, "num_resent": num, "longest_failed_try_s": 60}
    assert "after 60 s" in found.advice and "proxy" in found.advice
    assert TITLES["resent"]


@pytest.mark.parametrize(("num", "after_s"), [(1, 60.0), (160, 9.0), (160, None)])
def test_few_resent_samples_and_quick_refusals_select_nothing(num: int, after_s: float | None) -> None:
    # None: an older ledger does not tell after how long.
    builder = whole_ledger(config(evals=_eval(repeats=4)), sample=_resent(num, after_s))
    assert accuracy_findings(builder.view()) == []


def test_resent_samples_that_stayed_without_a_reply_are_errored_alone() -> None:
    found = _only(whole_ledger(sample=_every(20, status="cut", reply=None, resent_after_s=60.0)))
    assert found.code == "errored"


def test_unparsed() -> None:
    found = _only(whole_ledger(sample=_every(10, reply="It is late.")))
    assert (found.code, found.severity) == ("unparsed", "warn")
    assert found.evidence == {"unparsed_fraction": 0.1, "num_unparsed": 4, "num_empty": 0}
    assert "format" in found.advice


def test_unparsed_because_empty_points_to_the_parser() -> None:
    found = _only(whole_ledger(sample=_every(10, reply="")))
    assert found.evidence["num_empty"] == 4
    assert "reasoning parser" in found.advice


@pytest.mark.parametrize("fault", [{"finish_reason": "length"}, {"status": "timeout"}, {"reply": "?"}])
def test_one_fault_among_many_is_below_the_thresholds(fault: dict[str, object]) -> None:
    # 1 of 160 = 0.6%: below 1% and 2%.
    def change(sample: SampleRecord) -> SampleRecord:
        hit = sample.target == "alpha" and (sample.question, sample.repeat) == ("q000", 0)
        return sample.model_copy(update=fault) if hit else sample

    settings = config(evals=_eval(repeats=4))
    assert accuracy_findings(whole_ledger(settings, sample=change).view()) == []


def test_max_tokens_low() -> None:
    settings = config(evals=_eval("aime25", rows="default", sampling={"temperature": 0.7, "max_tokens": 2048}))
    found = accuracy_findings(whole_ledger(settings).view())
    assert [(f.code, f.severity, f.target) for f in found] == [
        ("max_tokens_low", "warn", "alpha"), ("max_tokens_low", "warn", "beta")
    ]  # fmt: skip
    assert found[0].evidence == {"max_tokens": 2048, "recommended_tokens": 16384}
    assert "from 2048 to 16384" in found[0].advice


def _long_reply(sample: SampleRecord, words: str) -> SampleRecord:
    return sample.model_copy(update={"reply": f"{words} " + "step " * 60 + (sample.reply or "")})


def test_identical_repeats() -> None:
    settings = config(evals=_eval(repeats=3))
    found = accuracy_findings(whole_ledger(settings, sample=lambda s: _long_reply(s, "same")).view())
    assert [(f.code, f.severity) for f in found] == [("identical_repeats", "red")] * 2
    assert found[0].evidence == {"identical_fraction": 1.0, "num_pairs": 120}
    # One pair of three: intervals are too narrow, and a verdict may still stand.
    found = accuracy_findings(whole_ledger(settings, sample=lambda s: _long_reply(s, str(s.repeat // 2))).view())
    assert [(f.code, f.severity) for f in found] == [("identical_repeats", "warn")] * 2


def test_repeats_that_differ_or_are_short_are_fine() -> None:
    settings = config(evals=_eval(repeats=3))
    assert accuracy_findings(whole_ledger(settings, sample=lambda s: _long_reply(s, str(s.repeat))).view()) == []
    assert accuracy_findings(whole_ledger(settings).view()) == []


def _letters(given: str, gold: str) -> Change:
    def change(sample: SampleRecord) -> SampleRecord:
        number = int(sample.question[1:]) + sample.repeat
        reply = f'"answer": "{given[number % len(given)]}"'
        return sample.model_copy(update={"reply": reply, "gold": gold[number % len(gold)]})

    return change


def test_letter_bias() -> None:
    settings = config(evals=_eval("gpqa-diamond", repeats=4))
    found = accuracy_findings(whole_ledger(settings, sample=_letters("A", gold="ABCD")).view())
    assert [(f.code, f.severity) for f in found] == [("letter_bias", "warn")] * 2
    assert [found[0].evidence[f"num_{letter}"] for letter in "ABCD"] == [120, 0, 0, 0]
    assert [found[0].evidence[f"expected_{letter}"] for letter in "ABCD"] == pytest.approx([40, 80 / 3, 80 / 3, 80 / 3])
    assert found[0].evidence["p_value"] < 0.01


@pytest.mark.parametrize(
    ("given", "gold", "repeats"),
    [
        ("BCDA", "ABCD", 4),
        ("AAAAAB", "ABCD", 1),  # too few wrong answers to tell
        ("AAAABC", "AAAABC", 4),  # the right letters themselves lie unevenly
        ("BCD", "A", 4),
    ],
)
def test_even_wrong_letters_and_few_are_fine(given: str, gold: str, repeats: int) -> None:
    settings = config(evals=_eval("gpqa-diamond", repeats=repeats))
    assert accuracy_findings(whole_ledger(settings, sample=_letters(given, gold)).view()) == []


def _in_prose(number: int) -> Change:
    """Every n-th reply of alpha says its answer in prose, where no strict reader looks."""

    def change(sample: SampleRecord) -> SampleRecord:
        hit = sample.target == "alpha" and int(sample.question[1:]) % number == 0
        return sample.model_copy(update={"reply": f"So the answer is {sample.gold}."}) if hit else sample

    return change


def test_format_ignored() -> None:
    found = {f.code: f for f in accuracy_findings(whole_ledger(sample=_in_prose(10)).view())}
    assert sorted(found) == ["format_ignored", "unparsed"]
    ignored = found["format_ignored"]
    assert (ignored.severity, ignored.scope, ignored.target) == ("warn", "target", "alpha")
    assert ignored.evidence == pytest.approx({"score": 0.8, "lenient_score": 0.9, "gap": 0.1})
    assert "chat template" in ignored.advice


def test_a_lenient_reading_never_counts() -> None:
    alpha, beta = scored_evals(whole_ledger(sample=_in_prose(10)).view())
    assert (alpha.score.score, alpha.lenient_score) == (pytest.approx(0.8), pytest.approx(0.9))
    assert (beta.score.score, beta.lenient_score) == (pytest.approx(0.95), pytest.approx(0.95))


def test_wrong_answers_in_prose_and_cut_ones_are_no_matter_of_format() -> None:
    wrong = _every(4, reply="So the answer is 9999.")
    assert [f.code for f in accuracy_findings(whole_ledger(sample=wrong).view())] == ["unparsed"]

    def cut(sample: SampleRecord) -> SampleRecord:
        reply = f"So the answer is {sample.gold}"
        return sample.model_copy(update={"reply": reply, "finish_reason": "length", "output_tokens": 64})

    view = whole_ledger(sample=cut).view()
    assert {f.code for f in accuracy_findings(view)} == {"truncated"}
    assert [scored.lenient_score for scored in scored_evals(view)] == [0.0, 0.0]


def test_a_score_of_nothing_has_no_lenient_one() -> None:
    alpha = next(iter(scored_evals(whole_ledger(skip=lambda key: key.startswith("alpha-sums")).view())))
    assert (alpha.score.score, alpha.lenient_score) == (None, None)


def test_letter_bias_among_ten_options() -> None:
    settings = config(evals=_eval("mmlu_pro", repeats=4))
    found = accuracy_findings(whole_ledger(settings, sample=_letters("A", gold="ABCDEFGHIJ")).view())
    assert [f.code for f in found] == ["letter_bias"] * 2
    assert found[0].evidence["num_A"] == 144
    assert accuracy_findings(whole_ledger(settings, sample=_letters("BCDEFGHIJA", gold="ABCDEFGHIJ")).view()) == []
