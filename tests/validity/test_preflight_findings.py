"""Every finding of the preflight, made to happen, and none on a sound run."""

import pytest
from ledger_builder import CheckChange, LedgerBuilder, check_measurement, check_units, config, whole_ledger

from raybench.config.reference import NumericsReference
from raybench.ledger.bodies import PlanBody
from raybench.records import Check, CheckMeasurement, EvalUnit, Finding, Plan, TeacherForced
from raybench.validity.numerics import FLIPPED_FRACTION, MEAN_DLOGP, difference
from raybench.validity.preflight import preflight_findings


def ledger(change: CheckChange | None = None, *, second: CheckChange | None = None) -> LedgerBuilder:
    """A whole run, with the checks of two nodes of alpha; `change` on the first, `second` on the other."""
    builder = whole_ledger()
    for place, (start, what) in enumerate((("n0.0", change), ("n7.0", second))):
        for unit in check_units("alpha", place):
            builder.checked(unit, start, what)
    return builder


def only(builder: LedgerBuilder) -> Finding:
    found = preflight_findings(builder.view())
    assert len(found) == 1, [(finding.code, finding.advice) for finding in found]
    return found[0]


def when(name: Check, **changes: object) -> CheckChange:
    """Change the measurement of one check."""
    return lambda found: found.model_copy(update=changes) if found.check == name else found


def forced(*logprobs: float, top_ids: tuple[int, ...] = (3, 4, 5), tokens: str = "5ha") -> tuple[TeacherForced, ...]:
    return (TeacherForced(tokens_sha256=tokens, logprobs=logprobs, top_ids=top_ids),)


def test_a_sound_run_has_no_finding() -> None:
    assert preflight_findings(ledger().view()) == []


def test_a_ledger_without_checks_has_no_finding() -> None:
    assert preflight_findings(whole_ledger().view()) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [("limits", "limits"), ("grader", "grader_broken"), ("prompt", "prompt_format"), ("canary", "canary_failed")],
)
def test_a_check_that_says_stop_is_red_and_says_what_it_saw(name: Check, code: str) -> None:
    found = only(ledger(when(name, result="stop", words="the seen thing", evidence={"num_seen": 3})))
    assert (found.code, found.severity, found.target, found.evidence) == (code, "red", "alpha", {"num_seen": 3})
    assert found.advice.startswith("n0: the seen thing. ")


def test_a_check_that_warns_is_a_warning() -> None:
    found = only(ledger(when("agreement", result="warn", words="HTTP 500")))
    assert (found.code, found.severity) == ("nodes_disagree", "warn")


def test_other_prompt_lengths_on_another_node_are_a_prompt_format_fault() -> None:
    found = only(ledger(second=when("prompt", prompt_tokens=(21, 39))))
    assert (found.code, found.severity) == ("prompt_format", "red")
    assert found.evidence == {"num_prompts": 2, "num_differing": 1, "first_tokens": 34, "other_tokens": 39}
    assert found.advice.startswith("n0 and n7: ")


def test_other_greedy_replies_on_another_node_are_a_warning() -> None:
    found = only(ledger(second=when("agreement", replies=(("two", "plus", "two"), ("five",)))))
    assert (found.code, found.severity) == ("nodes_disagree", "warn")
    assert found.evidence == {"agreement_fraction": pytest.approx(1 / 6), "num_questions": 2}


def test_other_log_probabilities_on_another_node_are_red() -> None:
    found = only(ledger(second=when("numerics", texts=forced(-1.2, -2.0, -0.4))))
    assert (found.code, found.severity) == ("numerics_differ", "red")
    assert found.evidence["mean_dlogp"] == pytest.approx(0.1)
    assert (found.evidence["max_dlogp"], found.evidence["flipped_fraction"]) == (pytest.approx(0.2), 0)


def test_noise_of_another_batch_or_kernel_is_silent() -> None:
    assert preflight_findings(ledger(second=when("numerics", texts=forced(-1 - MEAN_DLOGP, -2.0, -0.5))).view()) == []


def test_other_most_probable_tokens_are_red_whatever_the_mean() -> None:
    found = only(ledger(second=when("numerics", texts=forced(-1.0, -2.0, -0.5, top_ids=(3, 9, 5)))))
    assert (found.code, found.evidence["mean_dlogp"]) == ("numerics_differ", 0)
    assert found.evidence["flipped_fraction"] > FLIPPED_FRACTION


def test_other_tokens_of_the_same_text_are_red() -> None:
    found = only(ledger(second=when("numerics", texts=forced(-1.0, -2.0, tokens="0the7"))))
    assert (found.code, found.evidence) == ("numerics_differ", {"num_texts": 1})


def test_texts_of_other_tokens_cannot_be_compared() -> None:
    one = check_measurement(next(unit for unit in check_units("t") if unit.check == "numerics"))
    other: CheckMeasurement = one.model_copy(update={"texts": forced(-1.0, tokens="other")})
    assert difference(one.texts, other.texts) is None
    assert difference((), one.texts) is None


def test_decode_that_computes_something_else_is_a_warning() -> None:
    found = only(ledger(when("decode", result="warn", words="512 tokens differ", evidence={"mean_dlogp": 0.2})))
    assert (found.code, found.severity, found.evidence) == ("decode_differs", "warn", {"mean_dlogp": 0.2})
    assert found.advice.startswith("n0: 512 tokens differ. Decode and prefill")


def against_reference(*logprobs: float, tokens: str = "5ha") -> list[Finding]:
    """Findings of two nodes, both as in `check_measurement`, held against a stored reference."""
    accepted = NumericsReference(
        target="old", model="org/model", engine="sglang", engine_version="0.5.20", accelerator="H200",
        texts=forced(*logprobs, tokens=tokens), date="2026-01-02", run_id="r", raybench_version="0.1.0",
    )  # fmt: skip
    builder = whole_ledger(config(preflight={"reference": accepted.model_dump(mode="json")}))
    for place, start in enumerate(("n0.0", "n7.0")):
        for unit in check_units("alpha", place):
            builder.checked(unit, start, None)
    return preflight_findings(builder.view())


def test_what_the_reference_said_is_silent() -> None:
    assert against_reference(-1.0, -2.0 + MEAN_DLOGP, -0.5) == []


def test_a_drift_from_the_reference_is_a_warning_for_each_node() -> None:
    found = against_reference(-1.2, -2.1, -0.5)
    assert [(each.code, each.severity, each.target) for each in found] == [("numerics_drift", "warn", "alpha")] * 2
    assert found[0].evidence["mean_dlogp"] == pytest.approx(0.1)
    assert found[0].advice.startswith(
        "n0 gives the same texts other log-probabilities than the reference did (org/model, sglang 0.5.20, H200, 2026-"
    )


def test_other_tokens_than_the_reference_are_a_warning() -> None:
    found = against_reference(-1.0, -2.0, -0.5, tokens="0the7")
    assert {each.code for each in found} == {"numerics_drift"}
    assert "reads the same texts as other tokens" in found[0].advice


def test_a_check_that_was_made_again_with_another_end_is_history_unless_its_node_answered_samples() -> None:
    stop = when("canary", result="stop", words="nonsense")
    canary = next(unit for unit in check_units("alpha") if unit.check == "canary")
    builder = whole_ledger()
    builder.checked(canary, "n8.0", stop)
    builder.checked(canary, "n9.0", attempt=2)
    assert preflight_findings(builder.view()) == []
    # n0 answered alpha's samples: what its check said stands.
    builder = whole_ledger()
    builder.checked(canary, "n0.0", stop)
    builder.checked(canary, "n9.0", attempt=2)
    assert only(builder).code == "canary_failed"


def test_a_node_that_answered_samples_without_its_planned_checks_is_named() -> None:
    builder = LedgerBuilder(config())
    units = check_units("alpha")
    builder.plan = Plan(units=(*units, *builder.plan.units))
    builder.session()
    builder.add("plan", PlanBody(digest="p", plan=builder.plan))
    builder.node("alpha", 0)
    builder.engine("alpha", "n0.0")
    for unit in units:
        if unit.check != "canary":
            builder.checked(unit, "n0.0")
    for unit in builder.plan.units:
        if isinstance(unit, EvalUnit) and unit.target == "alpha":
            builder.eval_done(unit, "n0.0")
    found = only(builder)
    assert (found.code, found.severity, found.evidence) == ("unchecked", "warn", {"num_checks_missing": 1})
    assert "n0: these checks could not be made: canary" in found.advice
