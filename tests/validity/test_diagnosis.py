"""Every row of the table of signatures, made to fit, and none on a sound run."""

import pytest
from ledger_builder import LedgerBuilder, check_units, config, whole_ledger
from sick_evals import LOOPING, on_alpha, repeated, words

from raybench.ledger.bodies import STOP_EVAL, Decision
from raybench.records import CheckMeasurement, Failure, Finding, SampleRecord, Severity
from raybench.report.diagnosis_page import CAUSES, diagnosis_lines
from raybench.report.markdown import render
from raybench.report.summary import make_report
from raybench.validity.diagnosis import ROWS, Diagnosis, diagnoses
from raybench.validity.eval_checks import checked_evals, eval_findings
from raybench.validity.preflight import preflight_findings


def diagnosed(builder: LedgerBuilder, *more: Finding) -> tuple[Diagnosis, ...]:
    view = builder.view()
    evals = checked_evals(view)
    return diagnoses(view, evals, [*more, *eval_findings(evals)])


def _preflight(code: str, severity: Severity = "red", target: str | None = "alpha") -> Finding:
    return Finding(
        code=code, severity=severity, scope="target", target=target, rule="a rule", evidence={"seen": 2.0},
        advice="what to do",
    )  # fmt: skip


def test_a_sound_run_has_none_and_its_pages_say_nothing() -> None:
    assert diagnosed(whole_ledger()) == ()
    assert diagnosed(whole_ledger(config(evals=repeated()))) == ()
    report = make_report(whole_ledger().view())
    assert diagnosis_lines(report) == []
    assert "Diagnosis" not in render(report)


def _cut_at(sample: SampleRecord, tokens: int = 2048) -> SampleRecord:
    if sample.target != "alpha" or sample.seed % 6 == 0:
        return sample
    changes = {"reply": words(60, sample.key), "finish_reason": "length", "output_tokens": tokens}
    return sample.model_copy(update=changes)


AIME = repeated("aime25", 1, sampling={"temperature": 0.7, "max_tokens": 2048}, baseline=0.9, gate="published")


def test_too_low_a_limit_is_named_with_the_number_that_is_needed() -> None:
    """What the report that this project grew from should have said."""
    [found] = diagnosed(whole_ledger(config(evals=AIME), sample=_cut_at))
    assert (found.target, found.eval, found.cause) == ("alpha", "aime25", "max_tokens")
    assert found.sentence.startswith(
        "truncated 82%: max_tokens 2,048 is below what this eval needs; accuracy on completed items 100%"
    )
    assert found.change == "rerun with max_tokens 16,384"
    assert found.evidence == {"truncated_fraction": 0.825, "max_tokens": 2048, "completed_accuracy": 1.0}
    assert found.also == ()


def test_the_engines_own_limit_is_told_from_ours() -> None:
    [found] = diagnosed(whole_ledger(config(evals=AIME), sample=lambda s: _cut_at(s, 900)))
    assert (found.cause, found.also) == ("engine_limit", ())
    assert "replies end at 900 tokens, before max_tokens 2,048" in found.sentence


def test_cut_loops_are_no_matter_of_the_limit() -> None:
    def loop(sample: SampleRecord) -> SampleRecord:
        cut = _cut_at(sample)
        return cut.model_copy(update={"reply": LOOPING}) if cut.finish_reason == "length" else cut

    [found] = diagnosed(whole_ledger(config(evals=AIME), sample=loop))
    assert found.cause == "loops" and "max_tokens" in found.also
    assert "temperature 0.7" in found.sentence


@pytest.mark.parametrize(
    ("changes", "cause", "words_said"),
    [
        ({"status": "http_error", "reply": None, "num_transport_retries": 4}, "transport", "160 retries"),
        ({"num_transport_retries": 1, "resent_after_s": 61.0}, "transport", "the score is of short ones"),
        ({"reply": f"{LOOPING}\nAnswer: 1"}, "loops", "repeat themselves without end"),
        ({"reply": "", "reasoning_chars": 900}, "reasoning_parser", "100% of the replies are empty"),
        ({"matched_stop": "Question:"}, "stop_tokens", "stop words that nobody sent"),
        ({"reply": f"Answer: 1\n\nUser: {words(9, 1)}"}, "stop_tokens", "replies do not end"),
        ({"reply": "which makes it seven"}, "format", "without an answer that can be read"),
        ({"prompt_tokens": 40}, "prompt", "prompts of different length on the targets"),
        ({"reply": "Answer: -1"}, "model_or_reference", "below the reference"),
    ],
)
def test_signatures_in_the_replies(changes: dict[str, object], cause: str, words_said: str) -> None:
    found = {d.target: d for d in diagnosed(whole_ledger(sample=on_alpha(**changes)))}
    assert found["alpha"].cause == cause
    assert words_said in found["alpha"].sentence
    # Of two targets whose prompts differ, nobody knows yet which one is wrong.
    assert set(found) == ({"alpha", "beta"} if cause == "prompt" else {"alpha"})


def test_repeats_that_are_one_text() -> None:
    def same(sample: SampleRecord) -> SampleRecord:
        return sample.model_copy(update={"reply": f"{words(60, sample.question)}\n{sample.reply}"})

    found = diagnosed(whole_ledger(config(evals=repeated(repeats=4)), sample=same))
    assert {d.cause for d in found} == {"identical_repeats"}


@pytest.mark.parametrize(("num_errored", "cause"), [(30, "transport"), (2, "prompt")])
def test_canaries_without_a_reply_say_nothing_about_the_prompt(num_errored: int, cause: str) -> None:
    def fail(found: CheckMeasurement) -> CheckMeasurement:
        evidence = {"num_canaries": 40, "num_allowed": 2, "num_correct": 10, "num_errored": num_errored}
        changes = {"result": "stop", "words": "10 of 40 canaries right", "evidence": evidence}
        return found.model_copy(update=changes) if found.check == "canary" else found

    builder = whole_ledger()
    for unit in check_units("alpha"):
        builder.checked(unit, "n0.0", fail)
    found = {d.target: d for d in diagnosed(builder, *preflight_findings(builder.view()))}
    assert found["alpha"].cause == cause


def test_a_limit_that_the_preflight_refused_names_what_is_needed() -> None:
    def low(found: CheckMeasurement) -> CheckMeasurement:
        evidence = {"sums_max_tokens": 64, "sums_needed_tokens": 512}
        changes = {"result": "stop", "words": "sums: max_tokens 64 is below", "evidence": evidence}
        return found.model_copy(update=changes) if found.check == "limits" else found

    builder = whole_ledger()
    for unit in check_units("alpha"):
        builder.checked(unit, "n0.0", low)
    found = {d.target: d for d in diagnosed(builder, *preflight_findings(builder.view()))}
    assert (found["alpha"].cause, found["alpha"].change) == ("max_tokens", "rerun with max_tokens 512")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("grader_broken", "grader"),
        ("prompt_format", "prompt"),
        ("canary_failed", "prompt"),
        ("limits", "max_tokens"),
        ("numerics_differ", "numerics"),
        ("nodes_disagree", "numerics"),
        ("decode_differs", "numerics"),
        ("numerics_drift", "numerics"),
        ("node_low", "node"),
        ("same_length", "hidden_cap"),
        ("repeats_drift", "drift"),
        ("letter_bias", "guessing"),
        ("position_bias", "guessing"),
    ],
)
def test_findings_of_other_checks_name_a_cause(code: str, cause: str) -> None:
    finding = _preflight(code).model_copy(update={"evidence": {"share": 0.4, "expected_share": 0.9}})
    [found] = diagnosed(whole_ledger(), finding)
    assert (found.target, found.cause, found.change) == ("alpha", cause, "what to do")
    assert [d.target for d in diagnosed(whole_ledger(), finding.model_copy(update={"target": None}))] == [
        "alpha",
        "beta",
    ]
    assert diagnosed(whole_ledger(), finding.model_copy(update={"severity": "info"})) == ()


def test_what_was_lost_with_its_engine_is_told_as_that() -> None:
    builder = whole_ledger(skip=lambda key: key == "beta-sums-1")
    builder.failed("beta-sums-1", Failure(cause="engine_died", message="signal 9\ntail", given_up=True), start="n1.0")
    [found] = diagnosed(builder)
    assert (found.target, found.cause) == ("beta", "engine_lost")
    assert found.sentence.startswith("20 of 40 samples have no record") and found.sentence.endswith("signal 9")


@pytest.mark.parametrize(
    ("rule", "changes", "cause"),
    [
        ("stop_truncated", {"finish_reason": "length", "output_tokens": 64, "reply": words(50, 1)}, "max_tokens"),
        ("stop_unparsed", {"reply": "which makes it seven"}, "format"),
        ("stop_errored", {"status": "timeout", "reply": None}, "transport"),
    ],
)
def test_a_stopped_eval_has_the_cause_of_its_rule_and_is_invalid(rule, changes, cause) -> None:
    builder = whole_ledger(sample=on_alpha(**changes), skip=lambda key: key == "alpha-sums-1")
    ruling = Decision(
        what=STOP_EVAL, target="alpha", eval="sums", reason="20 of 20", rule=rule, dropped=("alpha-sums-1",)
    )
    builder.add("decision", ruling)
    report = make_report(builder.view())
    assert report.verdict == "INVALID"
    assert [d.cause for d in report.diagnoses] == [cause]
    assert (report.num_missing, report.provenance.num_samples_dropped) == (0, 20)
    assert "20 samples were not asked: a rule of the plan had decided." in render(report)
    [line] = diagnosis_lines(report)
    assert line.startswith(f"sums on alpha: {CAUSES[cause]}: ") and ". To do: " in line


def test_every_cause_has_words() -> None:
    assert {cause for cause, _ in ROWS} == set(CAUSES)
