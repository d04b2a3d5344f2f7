"""When a measured reference is another measurement, and what then happens to the gate."""

from pathlib import Path

import pytest
from ledger_builder import LedgerBuilder, check_units, config, plan, sample_spec, whole_ledger
from pydantic import JsonValue

from raybench.config.reference import MeasuredReference
from raybench.errors import ConfigError
from raybench.evals.grade import GRADER_VERSION
from raybench.ledger.view import RunView
from raybench.records import EvalUnit, Message, SampleRecord, Sampling
from raybench.report.markdown import render
from raybench.report.references import measured_numerics, measured_references
from raybench.report.summary import make_report
from raybench.validity.accuracy import accuracy_findings
from raybench.validity.references import differences, prompts_digest


def _saved(view: RunView, target: str = "alpha") -> MeasuredReference:
    [entry] = measured_references(view, make_report(view), target)
    return entry


def _held_against(reference: MeasuredReference, **changes: JsonValue) -> LedgerBuilder:
    settings: dict[str, JsonValue] = {
        "name": "sums", "sampling": {"temperature": 0, "max_tokens": 64}, "baseline": 0.9, "margin": 0.15,
        "block_size": 20, "reference": reference.model_dump(mode="json"),
    }  # fmt: skip
    return whole_ledger(config(evals=[settings | changes]))


def test_the_same_run_is_comparable_with_itself_and_paired() -> None:
    builder = _held_against(_saved(whole_ledger().view()))
    view = builder.view()
    assert accuracy_findings(view) == []
    alpha, beta = make_report(view).evals
    assert alpha.accuracy.gate is not None and beta.accuracy.gate is not None
    assert (alpha.accuracy.gate.against, alpha.accuracy.gate.num_paired) == ("reference", 40)
    assert alpha.accuracy.gate.difference == pytest.approx(0)
    assert beta.accuracy.gate.difference == pytest.approx(0.05)
    assert [shown.against for shown in alpha.accuracy.standings] == ["published"]
    assert alpha.reference is not None
    assert (alpha.reference.target, alpha.reference.differs) == ("alpha", ())


def test_what_is_saved_holds_counts_by_id_and_no_text() -> None:
    entry = _saved(whole_ledger().view())
    assert entry.questions["q003"] == (0, 1)
    assert sum(correct for correct, _ in entry.questions.values()) == 36
    assert (entry.score, entry.num_questions, entry.repeats, entry.date) == (0.9, 40, 1, "2025-10-09")
    assert (entry.engine_version, entry.accelerator, entry.model_revision) == ("0.5.21", "H200", "abc123")
    assert "What is" not in entry.model_dump_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampling": {"temperature": 0, "max_tokens": 32}}, "max_tokens 64 there, 32 here"),
        ({"sampling": {"temperature": 0, "max_tokens": 64, "top_p": 0.5}}, "top_p 1 there, 0.5 here"),
    ],
)
def test_other_sampling_is_flagged_and_gates_nothing(change: dict[str, JsonValue], words: str) -> None:
    view = _held_against(_saved(whole_ledger().view()), **change).view()
    found = [finding for finding in accuracy_findings(view) if finding.code == "reference_differs"]
    assert [(f.target, f.eval, f.severity) for f in found] == [("alpha", "sums", "warn"), ("beta", "sums", "warn")]
    assert words in found[0].rule
    row = make_report(view).evals[0]
    assert row.accuracy.gate is None
    assert row.reference is not None
    assert row.reference.differs == (words,)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"prompts_sha256": "1" * 64}, "other questions or another prompt"),
        ({"num_questions": 30}, "30 questions there, 40 here"),
        ({"simulated": True}, "simulated there, real here"),
        ({"route": "completions"}, "route completions there, chat here"),
        ({"grader": GRADER_VERSION - 1}, f"grader {GRADER_VERSION - 1} there, {GRADER_VERSION} here (save it again"),
    ],
)
def test_another_reference_is_flagged(update: dict[str, object], words: str) -> None:
    view = _held_against(_saved(whole_ledger().view()).model_copy(update=update)).view()
    [first, _] = accuracy_findings(view)
    assert first.code == "reference_differs"
    assert words in first.rule


def test_the_number_of_repeats_may_differ() -> None:
    entry = _saved(whole_ledger().view()).model_copy(update={"repeats": 16})
    assert accuracy_findings(_held_against(entry).view()) == []


def test_the_published_score_gates_by_name_only() -> None:
    row = make_report(_held_against(_saved(whole_ledger().view()), gate="published").view()).evals[0]
    assert row.accuracy.gate is not None
    assert row.accuracy.gate.against == "published"
    assert [shown.against for shown in row.accuracy.standings] == ["reference"]


def test_a_prompt_digest_ignores_order_repeats_and_letters_but_no_word() -> None:
    specs = [spec for unit in plan(config()).units if isinstance(unit, EvalUnit) for spec in unit.samples][:40]
    digest = prompts_digest(specs)
    assert prompts_digest(reversed(specs)) == digest
    assert prompts_digest([*specs, sample_spec("alpha", "sums", 3, repeat=1)]) == digest
    assert prompts_digest(specs[1:]) != digest
    shown = ("Which?\n\nA) red\nB) blue\nC) green\nD) grey", "Which?\n\nA) grey\nB) green\nC) red\nD) blue")
    letters = [
        specs[0].model_copy(
            update={"messages": (Message(role="user", content=text),), "gold": gold, "letter_order": order}
        )
        for text, gold, order in ((shown[0], "A", (0, 1, 2, 3)), (shown[1], "C", (3, 2, 0, 1)))
    ]
    assert prompts_digest(letters[:1]) == prompts_digest(letters[1:])
    system = Message(role="system", content="Be brief.")
    slipped_in = specs[0].model_copy(update={"messages": (system, *specs[0].messages)})
    assert prompts_digest([slipped_in, *specs[1:]]) != digest
    other_key = specs[0].model_copy(update={"gold": "12"})
    assert prompts_digest([other_key, *specs[1:]]) != digest


def test_all_differences_are_told() -> None:
    entry = _saved(whole_ledger().view())
    sampling = Sampling(temperature=1, max_tokens=8)
    entry = entry.model_copy(update={"grader": 1})
    found = differences(
        entry, prompts_sha256="x", sampling=sampling, route="completions", num_questions=40, simulated=True
    )
    assert len(found) == 6


def test_route_and_graders_are_saved_and_their_difference_gates_nothing() -> None:
    entry = _saved(whole_ledger().view())
    assert (entry.route, entry.grader) == ("chat", GRADER_VERSION)
    held = make_report(_held_against(entry).view()).evals[0]
    assert held.accuracy.gate is not None
    assert held.reference is not None and held.reference.unsaid == ()
    row = make_report(_held_against(entry, route="completions").view()).evals[0]
    assert row.accuracy.gate is None
    assert row.reference is not None and row.reference.differs == ("route chat there, completions here",)


def test_a_reference_of_an_older_file_gates_and_says_what_it_does_not_say() -> None:
    content = _saved(whole_ledger().view()).model_dump(mode="json")
    old = MeasuredReference.model_validate({k: v for k, v in content.items() if k not in ("route", "grader")})
    view = _held_against(old, route="completions").view()
    assert accuracy_findings(view) == []
    report = make_report(view)
    assert report.evals[0].accuracy.gate is not None and report.evals[0].accuracy.gate.against == "reference"
    assert "Not known: its route and the version of its graders, for an older raybench saved it" in render(report)
    known = _held_against(old.model_copy(update={"route": "chat", "grader": GRADER_VERSION})).view()
    assert "Not known" not in render(make_report(known))


def test_a_run_of_several_targets_needs_a_name() -> None:
    view = whole_ledger().view()
    with pytest.raises(ConfigError, match=r"--target \(alpha, beta\)"):
        measured_references(view, make_report(view), None)
    with pytest.raises(ConfigError, match="targets of this run are alpha, beta"):
        measured_references(view, make_report(view), "gamma")


def test_the_numerics_of_a_targets_first_node_are_saved_with_its_scores() -> None:
    builder = whole_ledger()
    for unit in check_units("beta"):
        builder.checked(unit, "n1.0", None)
    view = builder.view()
    report = make_report(view)
    saved = measured_numerics(view, report, "beta")
    assert saved is not None
    assert (saved.target, saved.accelerator, saved.texts[0].logprobs) == ("beta", "B200", (-1.0, -2.0, -0.5))
    assert measured_numerics(view, report, "alpha") is None


def test_what_is_invalid_incomplete_or_absent_is_no_reference() -> None:
    def cut(sample: SampleRecord) -> SampleRecord:
        return sample.model_copy(update={"finish_reason": "length"} if sample.question == "q001" else {})

    for builder, words in (
        (whole_ledger(sample=cut), "INVALID \\(truncated\\)"),
        (whole_ledger(skip=lambda key: key == "alpha-sums-1"), "misses 20 of 40 samples"),
        (whole_ledger(config(evals=[])), "no eval on alpha"),
    ):
        view = builder.view()
        with pytest.raises(ConfigError, match=words):
            measured_references(view, make_report(view), "alpha")


def test_a_ledger_that_names_no_reference_reads_as_before(tmp_path: Path) -> None:
    builder = whole_ledger()
    body = builder.records[0].body
    evals = body["config"]["evals"]  # pyright: ignore
    for settings in evals:  # pyright: ignore
        del settings["gate"], settings["reference"]  # pyright: ignore
    row = make_report(builder.view()).evals[0]
    assert row.accuracy.gate is None, "an old ledger's baseline is shown"
    assert [shown.against for shown in row.accuracy.standings] == ["published"]
