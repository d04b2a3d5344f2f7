"""How scores, verdicts and differences read."""

import pytest
from ledger_builder import config, whole_ledger
from pydantic import JsonValue
from report_cases import terminal_text

from raybench.ledger.bodies import STOP_REPEATS, Decision
from raybench.ledger.view import RunView
from raybench.records import EngineFacts, EvalUnit, Failure, SampleRecord
from raybench.report.accuracy_words import eval_sentence
from raybench.report.markdown import render
from raybench.report.references import measured_references
from raybench.report.summary import make_report
from raybench.report.write import exit_code_of


def _settings(**changes: JsonValue) -> list[JsonValue]:
    settings: dict[str, JsonValue] = {
        "name": "sums", "rows": "synthetic", "sampling": {"temperature": 0.7, "max_tokens": 64}, "repeats": 4,
        "block_size": 80, "margin": 0.05,
    }  # fmt: skip
    return [settings | changes]


def _mixed(sample: SampleRecord) -> SampleRecord:
    """Every fifth question is right in some repeats only, so that there is variance within."""
    number = int(sample.question[1:])
    right = number % 5 != 1 or (number + sample.repeat) % 4 != 0
    value = int(sample.gold) + (not right)
    return sample.model_copy(update={"reply": f"Answer: {value}"})


def _reference(view: RunView) -> JsonValue:
    [entry] = measured_references(view, make_report(view), "alpha")
    return entry.model_dump(mode="json")


def test_a_pass_names_both_intervals_the_reference_the_published_number_and_the_rates() -> None:
    accepted = whole_ledger(config(evals=_settings()), sample=_mixed).view()
    held = _settings(reference=_reference(accepted), baseline=0.9, margin=0.1)
    report = make_report(whole_ledger(config(evals=held), sample=_mixed).view())
    line = eval_sentence(report.evals[0])
    for part in (
        "avg@4 = 95.0%",
        "| this exam, 95%: ",
        "| question population, 95%: ",
        "| vs reference 95.0 (alpha, sglang 0.5.21, avg@4): 0.0 points (one-sided 95% lower bound -",
        "-> PASS: not more than 10 points below",
        "| beside published 90.0 (another harness's number): +5.0 points, 95%: ",
        "(shown, not gated)",
        "| 0.0% truncated, 0.0% unparsed, 0 errors of 160.",
    ):
        assert part in line, part
    page = render(report)
    assert "measured by raybench on alpha (H200, sglang 0.5.21, model `org/some-model`) in run study-1" in page
    assert "- **sums** on **alpha**: the configuration that was timed" in page


@pytest.mark.parametrize(
    ("changes", "words", "code"),
    [
        ({"baseline": 1.0, "gate": "published", "repeats": 1}, "-> FAIL: below", 32),
        ({"baseline": 0.92, "gate": "published", "repeats": 1},
         "-> INCONCLUSIVE: too few samples to confirm or reject; needs K >= ", 33),
        ({"baseline": 0.6, "gate": "published", "repeats": 1}, "vs published 60.0 (another harness's number)", 0),
    ],
)  # fmt: skip
def test_verdicts_against_a_published_score(changes: dict[str, JsonValue], words: str, code: int) -> None:
    report = make_report(whole_ledger(config(evals=_settings(**changes))).view())
    assert words in eval_sentence(report.evals[0])
    assert exit_code_of(report, None, strict=True) == code


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baseline": 0.6}, "(one-sided 97.8% lower bound "),
        ({"baseline": 1.0}, "(one-sided 97.8% upper bound "),
        ({"baseline": 0.91}, "(one-sided 97.8% bounds "),
        ({"baseline": 0.91, "adaptive": None}, "(one-sided 95% bounds "),
    ],
)  # fmt: skip
def test_the_bounds_of_stages_are_named_by_their_level(changes: dict[str, JsonValue], words: str) -> None:
    staged: dict[str, JsonValue] = {
        "gate": "published",
        "repeats": 16,
        "adaptive": {"stages": [4, 8, 16]},
        "margin": 0.022,
    }
    report = make_report(whole_ledger(config(evals=_settings(**(staged | changes)))).view())
    assert words in eval_sentence(report.evals[0])


def _cut(sample: SampleRecord) -> SampleRecord:
    return sample.model_copy(update={"finish_reason": "length"} if sample.target == "alpha" else {})


def test_beside_a_red_check_there_is_its_name_and_no_verdict() -> None:
    report = make_report(whole_ledger(sample=_cut).view())
    alpha, beta = report.evals
    assert alpha.accuracy.gate is not None and beta.accuracy.gate is not None
    assert (alpha.accuracy.gate.verdict, alpha.invalid_by) == ("INVALID", ("truncated",))
    assert (beta.accuracy.gate.verdict, beta.invalid_by) == ("PASS", ())
    line = eval_sentence(alpha)
    assert "no verdict: `truncated`" in line
    assert not [word for word in ("PASS", "FAIL", "INCONCLUSIVE") if word in line]
    assert "no verdict: truncated" in terminal_text(report, 100)
    assert exit_code_of(report, None, strict=True) == 30
    assert "- **sums**: not compared; findings: `truncated`." in render(report)
    assert report.comparisons[0].evals == ()


def test_a_red_check_of_the_target_concerns_all_of_its_evals_and_one_of_a_passes_unit_none() -> None:
    def other_version(facts: EngineFacts) -> EngineFacts:
        return facts.model_copy(update={"version": "0.5.22"}) if facts.start == "n0.1" else facts

    builder = whole_ledger()
    builder.engine("alpha", "n0.1", other_version)
    unit = next(u for u in builder.plan.units if isinstance(u, EvalUnit))
    builder.records = [r for r in builder.records if r.key != unit.key and r.key not in {s.key for s in unit.samples}]
    builder.records = [r.model_copy(update={"seq": n}) for n, r in enumerate(builder.records)]
    builder.eval_done(unit, "n0.1")
    alpha, beta = make_report(builder.view()).evals
    assert (alpha.invalid_by, beta.invalid_by) == (("mixed_versions",), ())
    assert alpha.timed is not None
    assert alpha.timed.status == "another"

    lost = "alpha-static-b16-r0-l0"
    builder = whole_ledger(skip=lambda key: key == lost)
    builder.failed(lost, Failure(cause="engine_died", message="gone", given_up=True))
    report = make_report(builder.view())
    assert report.verdict == "INVALID"
    assert report.evals[0].invalid_by == ()


def test_a_difference_says_whether_it_is_distinguishable_and_over_how_many_claims() -> None:
    evals = [*_settings(repeats=1), *_settings(name="aime25", repeats=1)]
    report = make_report(whole_ledger(config(evals=evals)).view())
    [first, second] = report.comparisons[0].evals
    assert (first.num_claims, second.num_claims) == (2, 2)
    assert first.accuracy.permutation_p == first.accuracy.mcnemar_p == 0.5
    assert first.p_adjusted == 1.0
    page = render(report)
    assert "- **sums**: +5.0 points, 95%: -2.1 to +12.1: not distinguishable (p = 0.50 by permutation, " in page
    assert "p = 1.00 by Holm over the 2 differences of this report)" in page
    assert "Moved most: q013 (+100.0), q033 (+100.0)." in page


def test_an_eval_that_either_side_has_not_finished_is_compared_with_nothing() -> None:
    """Short replies come back first: what one side had answered by then would choose the pairs."""
    report = make_report(whole_ledger(skip=lambda key: key == "beta-sums-1").view())
    assert report.verdict == "INCOMPLETE"
    assert report.comparisons[0].evals == ()
    [left_out] = report.comparisons[0].evals_left_out
    assert (left_out.findings, left_out.num_missing) == ((), 20)
    page = render(report)
    assert "- **sums**: not compared; 20 samples missing: short replies come back first." in page
    assert "distinguishable" not in page
    assert "but for the scores of sums: short replies come back first." in page


def test_missing_passes_say_nothing_against_a_score() -> None:
    report = make_report(whole_ledger(skip=lambda key: key == "beta-static-b4-r0-l0").view())
    assert report.verdict == "INCOMPLETE"
    assert [row.eval for row in report.comparisons[0].evals] == ["sums"]
    assert report.comparisons[0].evals_left_out == ()
    assert "those that are here are sound as far as the checks can tell. Missing: 1 of" in render(report)


def test_repeats_that_a_rule_ended_early_are_no_missing_samples() -> None:
    builder = whole_ledger(config(evals=_settings(repeats=2, baseline=0.9, gate="published")))
    later = {s.key for u in builder.plan.units if isinstance(u, EvalUnit) for s in u.samples if s.repeat}
    builder.records = [r for r in builder.records if not (r.kind == "sample" and r.key in later and "alpha" in r.key)]
    builder.records = [r.model_copy(update={"seq": n}) for n, r in enumerate(builder.records)]
    assert make_report(builder.view()).comparisons[0].evals == ()
    ruling = Decision(
        what=STOP_REPEATS, target="alpha", eval="sums", reason="PASS after 1 repeat", rule="enough",
        numbers={"num_repeats": 1.0}, dropped=(),
    )  # fmt: skip
    builder.add("decision", ruling)
    [row] = make_report(builder.view()).comparisons[0].evals
    assert row.accuracy.num_pairs == 40


def test_a_large_difference_is_distinguishable() -> None:
    def worse(sample: SampleRecord) -> SampleRecord:
        wrong = sample.target == "alpha" and int(sample.question[1:]) % 2
        return sample.model_copy(update={"reply": "Answer: 9999"} if wrong else {})

    report = make_report(whole_ledger(sample=worse).view())
    [row] = report.comparisons[0].evals
    assert row.p_adjusted is not None and row.p_adjusted < 0.001
    assert ": distinguishable (p < 0.001 by permutation)" in render(report)
