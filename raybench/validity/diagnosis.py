"""From what was found to a named cause, its evidence, and the change to make: one for every sick eval. Pure.

A table of signatures, the most specific first. A score is told about the model only when none of them fits; a low score
alone is the last row. The report that this project grew from blamed a chat template for what a limit of 2,048 tokens
had done: the row for a template needs evidence about the prompt, and the row for the limit looks at finish reasons.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raybench.ledger.view import RunView
from raybench.records import EvalUnit, Finding, Record
from raybench.validity.eval_checks import CheckedEval

Cause = Literal[
    "grader", "transport", "prompt", "node", "reasoning_parser", "loops", "engine_limit", "max_tokens", "stop_tokens",
    "format", "identical_repeats", "hidden_cap", "numerics", "drift", "guessing", "engine_lost", "model_or_reference",
]  # fmt: skip

_LOOPS_AMONG_CUT = 0.5
"""With as many loops among the cut replies, a longer limit would only be filled as well."""


_LOOK = "look at the engine's log for the faults of these requests, remove their cause and run anew"


class Diagnosis(Record):
    """Why the score of one eval on one target is not what it should be."""

    target: str
    """Name of the target."""
    eval: str
    """Name of the eval."""
    cause: Cause
    """Name of the cause."""
    sentence: str
    """Evidence and cause in a sentence."""
    change: str
    """What to change."""
    evidence: dict[str, float]
    """Numbers that decided."""
    also: tuple[Cause, ...] = ()
    """Other causes whose signature fits as well; the first one hides what they do."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What is known about one eval on one target."""

    eval: CheckedEval
    found: Mapping[str, Finding]
    """Findings about it, its target or the run, by code."""
    lost: str | None
    """Why units of it were given up; None = none was."""

    @property
    def rule(self) -> str | None:
        """Kind of the rule that ended it."""
        ruling = self.eval.scored.ruling
        return None if ruling is None else ruling.rule

    def first(self, *codes: str) -> Finding | None:
        return next((self.found[code] for code in codes if code in self.found), None)


_Told = tuple[str, str, dict[str, float]]
Row = Callable[[_Case], _Told | None]
"""(sentence, change, evidence) where the signature fits."""


def diagnoses(view: RunView, evals: Sequence[CheckedEval], findings: Iterable[Finding]) -> tuple[Diagnosis, ...]:
    """One diagnosis for every sick eval, in the order of the evals; empty when all are well."""
    others = [f for f in findings if not any(f in one.findings for one in evals)]
    cases = [_case(view, one, others) for one in evals]
    return tuple(found for case in cases if (found := _diagnosis(case)) is not None)


def _case(view: RunView, one: CheckedEval, others: Iterable[Finding]) -> _Case:
    target, name = one.scored.target, one.scored.config.name
    about = [f for f in others if f.severity != "info" and f.target in (None, target) and f.eval in (None, name)]
    units = {u.key for u in view.units.values() if isinstance(u, EvalUnit) and (u.target, u.eval) == (target, name)}
    missing = units.intersection(view.missing_units())
    lost = [f.failure.message for f in view.failed if f.failure.given_up and f.key in missing]
    return _Case(one, {f.code: f for f in (*about, *one.findings)}, lost[0].splitlines()[0] if lost else None)


def _diagnosis(case: _Case) -> Diagnosis | None:
    fitting: list[tuple[Cause, _Told]] = [(cause, told) for cause, row in ROWS if (told := row(case)) is not None]
    if not fitting:
        return None
    cause, (sentence, change, evidence) = fitting[0]
    others: dict[Cause, None] = {c: None for c, _ in fitting[1:] if c not in (cause, "model_or_reference")}
    scored = case.eval.scored
    return Diagnosis(
        target=scored.target, eval=scored.config.name, cause=cause, sentence=sentence, change=change,
        evidence=evidence, also=tuple(others),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the rows


def _grader(case: _Case) -> _Told | None:
    found = case.first("grader_broken")
    return None if found is None else ("the grader fails its own test", found.advice, found.evidence)


def _unanswered_canaries(case: _Case) -> Finding | None:
    """Canaries that failed for want of a reply: they say nothing about the prompt."""
    found = case.first("canary_failed")
    if found is None:
        return None
    seen = found.evidence
    unanswered = seen.get("num_errored", 0)
    wrong = seen.get("num_canaries", 0) - seen.get("num_correct", 0)
    return found if unanswered > 0 and unanswered >= wrong / 2 else None


def _transport(case: _Case) -> _Told | None:
    if (canaries := _unanswered_canaries(case)) is not None:
        sent, lost = canaries.evidence["num_canaries"], canaries.evidence["num_errored"]
        sentence = (
            f"{lost:.0f} of {sent:.0f} trivial questions got no reply after all retries: requests fail on their way or "
            "in the engine, which says nothing about the model"
        )
        return sentence, _LOOK, canaries.evidence
    seen = case.eval.rates["errored"]
    found = case.first("errored")
    if found is None and case.rule != "stop_errored":
        return None
    retries = sum(s.num_transport_retries for s in case.eval.scored.samples)
    evidence: dict[str, float] = {"errored_fraction": seen.fraction or 0.0, "num_transport_retries": retries}
    sentence = (
        f"{_percent(seen.fraction)} of the samples have no reply after all retries ({retries:,} retries in all): "
        "requests fail on their way or in the engine, which says nothing about the model"
    )
    change = found.advice if found else _LOOK
    return sentence, change, evidence


def _prompt(case: _Case) -> _Told | None:
    found = case.first("prompt_format", "prompt_tokens_differ", "canary_failed")
    if found is None or found is _unanswered_canaries(case):
        return None
    words = {
        "prompt_format": "the server renders another prompt than the model's template",
        "canary_failed": "the model fails questions that it cannot fail, in this very form",
        "prompt_tokens_differ": "the same question has prompts of different length on this target's servers",
    }
    return f"{words[found.code]}: a chat template or a system prompt is at fault", found.advice, found.evidence


def _node(case: _Case) -> _Told | None:
    found = case.first("node_low")
    if found is None:
        return None
    seen = found.evidence
    sentence = (
        f"one node is right on {_percent(seen['share'])} of its samples, where the others' answers to the same "
        f"questions make {_percent(seen['expected_share'])} likely: that node is at fault"
    )
    return sentence, found.advice, seen


def _reasoning_parser(case: _Case) -> _Told | None:
    found = case.first("thoughts_only")
    if found is None:
        return None
    share = _percent(found.evidence["thoughts_only_fraction"])
    return f"{share} of the replies are empty: all of their text went to the thoughts", found.advice, found.evidence


def _cut(case: _Case) -> bool:
    return "truncated" in case.found or case.rule == "stop_truncated"


def _loops(case: _Case) -> _Told | None:
    looping, truncated = case.eval.rates["looping"], case.eval.rates["truncated"]
    many_among_cut = _cut(case) and looping.num >= _LOOPS_AMONG_CUT * truncated.num > 0
    if not many_among_cut and ("looping" not in case.found or _cut(case)):
        return None
    sampling = case.eval.scored.config.sampling
    sentence = (
        f"{_percent(looping.fraction)} of the replies repeat themselves without end, {_percent(truncated.fraction)} "
        f"are cut: degenerate sampling (temperature {sampling.temperature:g}) or broken numerics, not too short a limit"
    )
    change = (
        "set temperature, top_p and penalties as the model's card says (presence_penalty against repetition); if they "
        "are, compare log-probabilities with a node that is known to be sound"
    )
    evidence = {
        "looping_fraction": looping.fraction or 0.0, "truncated_fraction": truncated.fraction or 0.0,
        "temperature": sampling.temperature,
    }  # fmt: skip
    return sentence, change, evidence


def _longest_cut(case: _Case) -> int | None:
    cut = [s.output_tokens for s in case.eval.scored.samples if s.finish_reason == "length" and s.output_tokens]
    return max(cut, default=None)


def _engine_limit(case: _Case) -> _Told | None:
    limit, longest = case.eval.scored.config.sampling.max_tokens, _longest_cut(case)
    if not _cut(case) or longest is None or longest >= limit:
        return None
    share = case.eval.rates["truncated"].fraction or 0.0
    sentence = f"truncated {_percent(share)}: replies end at {longest:,} tokens, before max_tokens {limit:,}"
    change = "raise the engine's context length or its token capacity"
    return sentence, change, {"truncated_fraction": share, "longest_cut_reply_tokens": longest, "max_tokens": limit}


def _max_tokens(case: _Case) -> _Told | None:
    scored, limits = case.eval.scored, case.first("limits")
    if not _cut(case):
        if limits is None or limits.severity != "red":
            return None
        return _too_low(case, limits)
    if _engine_limit(case) is not None:
        return None
    limit, needed = scored.config.sampling.max_tokens, scored.evaluation.min_max_tokens
    counts = scored.score.counts
    whole = scored.score.num_scored - counts["truncated"]
    share = case.eval.rates["truncated"].fraction or 0.0
    sentence = f"truncated {_percent(share)}: max_tokens {limit:,} is below what this eval needs"
    evidence: dict[str, float] = {"truncated_fraction": share, "max_tokens": limit}
    if whole:
        completed = counts["correct"] / whole
        evidence["completed_accuracy"] = completed
        sentence += f"; accuracy on completed items {_percent(completed)} (they are the easier ones)"
    return sentence, f"rerun with max_tokens {needed if needed > limit else 2 * limit:,}", evidence


def _too_low(case: _Case, limits: Finding) -> _Told:
    """What the preflight said before any sample."""
    name, limit = case.eval.scored.config.name, case.eval.scored.config.sampling.max_tokens
    needed = limits.evidence.get(f"{name}_needed_tokens")
    if needed is None:
        return "max_tokens and the server's limits do not fit this eval", limits.advice, limits.evidence
    sentence = f"max_tokens {limit:,} is below the {needed:,.0f} that replies to this eval need: they would be cut"
    return sentence, f"rerun with max_tokens {needed:,.0f}", limits.evidence


def _stop_tokens(case: _Case) -> _Told | None:
    found = case.first("stray_stop", "run_on")
    if found is None:
        return None
    words = "replies are ended by stop words that nobody sent" if found.code == "stray_stop" else "replies do not end"
    return f"{words}: the end of a turn is not what the template says", found.advice, found.evidence


def _format(case: _Case) -> _Told | None:
    seen, found = case.eval.rates["unparsed"], case.first("unparsed", "format_ignored")
    if found is None and case.rule != "stop_unparsed":
        return None
    sentence = (
        f"{_percent(seen.fraction)} of the replies are whole and yet without an answer that can be read: the format "
        "that was asked for, or the grader, and not what the model knows"
    )
    change = found.advice if found else "read a few of these replies in the ledger"
    return sentence, change, {"unparsed_fraction": seen.fraction or 0.0}


def _told(code: str, sentence: str) -> Row:
    """A row whose evidence and change are those of one finding."""

    def row(case: _Case) -> _Told | None:
        found = case.first(code)
        return None if found is None else (sentence, found.advice, found.evidence)

    return row


def _numerics(case: _Case) -> _Told | None:
    found = case.first("numerics_differ", "decode_differs", "numerics_drift", "nodes_disagree")
    if found is None:
        return None
    sentence = "prompts and replies look sound, log-probabilities do not: a quantisation, kernel or parallelism fault"
    return sentence, found.advice, found.evidence


def _engine_lost(case: _Case) -> _Told | None:
    if case.lost is None:
        return None
    seen = case.eval.scored.score
    never = seen.num_planned - seen.num_samples
    sentence = f"{never:,} of {seen.num_planned:,} samples have no record, for what should answer was lost: {case.lost}"
    return sentence, "repair it and finish the run with --resume", {"num_missing": never}


def _model_or_reference(case: _Case) -> _Told | None:
    gate = case.eval.scored.score.gate
    if gate is None or gate.verdict != "FAIL":
        return None
    sentence = (
        "the score is below the reference while replies, rates and nodes look sound: the model is worse, or the "
        "reference was measured with another prompt, other sampling or other repeats"
    )
    change = "measure the reference with raybench under the same settings, and compare with that"
    return sentence, change, {"difference": gate.difference, "upper": gate.upper, "margin": gate.margin}


ROWS: tuple[tuple[Cause, Row], ...] = (
    ("grader", _grader),
    ("transport", _transport),
    ("prompt", _prompt),
    ("node", _node),
    ("reasoning_parser", _reasoning_parser),
    ("loops", _loops),
    ("engine_limit", _engine_limit),
    ("max_tokens", _max_tokens),
    ("stop_tokens", _stop_tokens),
    ("format", _format),
    (
        "identical_repeats",
        _told("identical_repeats", "repeats of a question are the same text: they are one sample, counted many times"),
    ),
    ("transport", _told("resent", "long replies were cut on their way and drawn anew: the score is of short ones")),
    ("hidden_cap", _told("same_length", "many replies end at one and the same length without being called cut")),
    ("numerics", _numerics),
    ("drift", _told("repeats_drift", "the share of right answers changed while the run went on")),
    ("guessing", _told("letter_bias", "answers favour some letters: the model guesses, or letters are misread")),
    ("guessing", _told("position_bias", "the place of the right option decides whether it is found")),
    (
        "prompt",
        _told(
            "prompt_tokens_differ_between_targets",
            "the same question has prompts of different length on the targets: a chat template or a system prompt is "
            "at fault on one of them",
        ),
    ),
    ("engine_lost", _engine_lost),
    ("model_or_reference", _model_or_reference),
)
"""Signatures, the most specific first: what stands above hides what stands below."""


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f}%" if share == 0 or share >= 0.1 else f"{100 * share:.1f}%"
