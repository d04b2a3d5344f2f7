"""Checks of the evals: was the model able to answer, did it, and were its answers read?

A low score is a statement about a model only when these are quiet. The report that this project grew from lost both of
its scores to a reply limit that no check looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from raybench.config.evals import EvalConfig
from raybench.evals import eval_of
from raybench.evals.base import Eval
from raybench.evals.grade import outcomes
from raybench.ledger.bodies import STOP_EVAL, STOP_REPEATS, Decision
from raybench.ledger.view import RunView
from raybench.records import EvalUnit, Finding, Outcome, SampleRecord, SampleSpec, Severity
from raybench.stats.accuracy import AccuracyScore, score
from raybench.stats.distributions import chi_square_p
from raybench.stats.rates import rate
from raybench.validity.engine import simulated_targets
from raybench.validity.holding import holding_of
from raybench.validity.references import prompts_digest

TRUNCATED_FRACTION = 0.01
ERRORED_FRACTION = 0.01
RESENT_FRACTION = 0.01
RESENT_FRACTION_RED = 0.05
LONG_TRY_S = 10.0
"""Failed tries of this length had a reply under way; refusals and lost connections are quicker, and select nothing."""
UNPARSED_FRACTION = 0.02
FORMAT_GAP = 0.01
"""Share of the score that may be lost to the form of the answers."""
IDENTICAL_FRACTION = 0.05
MIN_REPEATED_CHARS = 200
"""Shorter replies (a bare sum in a box) are the same text by right, whatever the temperature."""
LETTER_BIAS_P = 0.01
MIN_WRONG_LETTERS = 40
"""Ten expected at each letter, where the chi-square distribution holds."""


@dataclass(frozen=True, slots=True)
class ScoredEval:
    """One eval on one target, read from a ledger."""

    target: str
    """Name of the target."""
    config: EvalConfig
    """The eval's settings in the run's configuration."""
    evaluation: Eval
    """The eval itself."""
    samples: tuple[SampleRecord, ...]
    """Samples with a record, in plan order."""
    outcomes: dict[tuple[str, int], Outcome]
    """Their outcomes by (question, repeat)."""
    score: AccuracyScore
    """The score, its intervals and its gate. Where the repeats ended early, over those that decided."""
    nodes: dict[tuple[str, int], str]
    """Node that answered, by (question, repeat)."""
    lenient_score: float | None
    """Score if answers in another form than the requested one counted; None when nothing was answered. Shown beside
    the score, never instead of it."""
    prompts_sha256: str = ""
    """Hash of the planned questions as asked; see `raybench.validity.references.prompts_digest`."""
    reference_differs: tuple[str, ...] = ()
    """What makes the measured reference another measurement, in words; empty where it is comparable, or there is
    none."""
    ruling: Decision | None = None
    """What a rule of the plan decided about it; None = nothing."""


def scored_evals(view: RunView) -> Iterator[ScoredEval]:
    """Every planned eval of every target, in the order of the configuration."""
    planned: dict[tuple[str, str], list[SampleSpec]] = defaultdict(list)
    for unit in view.units.values():
        if isinstance(unit, EvalUnit):
            planned[unit.target, unit.eval].extend(unit.samples)
    for target in view.config.targets:
        for config in view.config.evals:
            wanted = planned.get((target.name, config.name))
            if not wanted:
                continue
            yield _scored(view, target.name, config, wanted)


def _scored(view: RunView, target: str, config: EvalConfig, planned: Sequence[SampleSpec]) -> ScoredEval:
    evaluation, digest = eval_of(config), prompts_digest(planned)
    held, others = holding_of(config, planned, simulated=target in simulated_targets(view))
    ruling = view.ruling(target, config.name)
    if ruling is not None and ruling.what == STOP_REPEATS:
        # Later repeats that ran already are left out: the look was at the earlier ones.
        planned = [spec for spec in planned if spec.repeat < ruling.numbers["num_repeats"]]
    samples = tuple(view.samples[spec.key] for spec in planned if spec.key in view.samples)
    graded = outcomes(samples, evaluation)
    return ScoredEval(
        target=target,
        config=config,
        evaluation=evaluation,
        samples=samples,
        outcomes=graded,
        score=score(graded, {(spec.question, spec.repeat) for spec in planned}, held),
        nodes={(s.question, s.repeat): view.sample_nodes.get(s.key, "") for s in samples},
        lenient_score=lenient_score(samples, graded, evaluation),
        prompts_sha256=digest,
        reference_differs=others,
        ruling=ruling,
    )


def lenient_score(
    samples: Iterable[SampleRecord], graded: Mapping[tuple[str, int], Outcome], evaluation: Eval
) -> float | None:
    """Mean over the questions, as `AccuracyScore.score`, where an unparsed reply is right when a lenient reader finds
    the right answer in it. Cut replies are not read: the last number of a text that was not finished is no answer."""
    marks: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        found = graded[sample.question, sample.repeat]
        if found != "errored":
            right = found == "correct" or (found == "unparsed" and _is_right_in_prose(sample, evaluation))
            marks[sample.question].append(int(right))
    return fmean(fmean(each) for each in marks.values()) if marks else None


def _is_right_in_prose(sample: SampleRecord, evaluation: Eval) -> bool:
    value = evaluation.lenient(sample.reply or "").value
    return value is not None and evaluation.agree(value, sample.gold) is True


def accuracy_findings(view: RunView) -> list[Finding]:
    """All findings about the evals of a run, by target and eval."""
    return [finding for scored in scored_evals(view) for finding in findings(scored)]


def findings(scored: ScoredEval) -> list[Finding]:
    """Findings about one eval on one target."""
    checks = (
        _stopped, _truncated, _errored, _resent, _unparsed, _format_ignored, _max_tokens_low, _identical_repeats,
        _letter_bias, _reference_differs,
    )  # fmt: skip
    return [found for check in checks if (found := check(scored)) is not None]


def eval_finding(
    scored: ScoredEval, named: tuple[str, Severity], rule: str, evidence: dict[str, float], advice: str
) -> Finding:
    """A finding about one eval on one target; `named` = (code, severity)."""
    code, severity = named
    return Finding(
        code=code,
        severity=severity,
        scope="target",
        target=scored.target,
        eval=scored.config.name,
        rule=f"{scored.config.name}: {rule}",
        evidence=evidence,
        advice=advice,
    )


def _stopped(scored: ScoredEval) -> Finding | None:
    ruling = scored.ruling
    if ruling is None or ruling.what != STOP_EVAL:
        return None
    never = scored.score.num_planned - scored.score.num_samples
    evidence = ruling.numbers | {"num_never_asked": float(never)}
    advice = f"{ruling.reason}; the other {never} samples were not asked. Remove the cause (see Diagnosis) and run anew"
    rule = "the run goes to its end: no rule of the plan stops it"
    return eval_finding(scored, ("stopped_by_rule", "red"), rule, evidence, advice)


def _truncated(scored: ScoredEval) -> Finding | None:
    share = scored.score.truncated_fraction
    if share is None or share <= TRUNCATED_FRACTION:
        return None
    limit = scored.config.sampling.max_tokens
    cut = [s.output_tokens for s in scored.samples if s.finish_reason == "length" and s.output_tokens is not None]
    evidence: dict[str, float] = {
        "truncated_fraction": share,
        "num_truncated": scored.score.counts["truncated"],
        "max_tokens": limit,
    }
    if cut and max(cut) < limit:
        evidence["longest_cut_reply_tokens"] = max(cut)
        advice = (
            f"replies were cut at {max(cut)} tokens, before sampling.max_tokens ({limit}): raise the engine's context "
            "length or its token capacity"
        )
    else:
        needed = scored.evaluation.min_max_tokens
        enough = f"to at least {needed}" if needed > limit else f"to {2 * limit} or more"
        advice = (
            f"raise sampling.max_tokens from {limit} {enough}; if replies then still run to the limit, read one: "
            "endless repetition calls for a temperature or a presence_penalty"
        )
    return eval_finding(
        scored, ("truncated", "red"), f"at most {TRUNCATED_FRACTION:.0%} of the replies are cut", evidence, advice
    )


def _errored(scored: ScoredEval) -> Finding | None:
    share = scored.score.errored_fraction
    if share is None or share <= ERRORED_FRACTION:
        return None
    errored = [s for s in scored.samples if scored.outcomes[s.question, s.repeat] == "errored"]
    kinds = Counter(s.status if s.status != "ok" else (s.finish_reason or "none") for s in errored)
    evidence: dict[str, float] = {"errored_fraction": share, "num_errored": len(errored)}
    evidence |= {f"num_{kind}": number for kind, number in sorted(kinds.items())}
    first = next((s.error for s in errored if s.error), None)
    said = f" (the first one said: {first.strip().splitlines()[0][:160]})" if first and first.strip() else ""
    if kinds.most_common(1)[0][0] == "timeout":
        advice = (
            f"raise timeout_s from {scored.config.timeout_s:g} or lower concurrency from {scored.config.concurrency}, "
            "and run anew"
        )
    else:
        advice = "look at the engine's log for the faults of these requests, remove their cause and run anew"
    # A sample ends once, whatever its content.
    advice += " (--resume asks only for what is missing, and these have ended)"
    rule = f"at most {ERRORED_FRACTION:.0%} of the samples stay without a reply after all retries"
    return eval_finding(scored, ("errored", "red"), rule, evidence, advice + said)


def _resent(scored: ScoredEval) -> Finding | None:
    """Engines ignore the request's seed, so that a sample that is sent again is drawn again: kept if it is short."""
    answered = [s for s in scored.samples if scored.outcomes[s.question, s.repeat] != "errored"]
    failed_s = [s.resent_after_s for s in answered if s.resent_after_s is not None and s.resent_after_s > LONG_TRY_S]
    if not failed_s or len(failed_s) / len(answered) <= RESENT_FRACTION:
        return None
    share, longest_s = len(failed_s) / len(answered), max(failed_s)
    evidence: dict[str, float] = {
        "resent_fraction": share,
        "num_resent": len(failed_s),
        "longest_failed_try_s": longest_s,
    }
    advice = (
        f"a reply that was cut on its way (the longest try after {longest_s:.0f} s) was asked for again, and a shorter "
        "draw took its place: raise the time limit of the proxy or gateway, or ask the server without it, and run "
        "anew; a gateway that restarted meanwhile does the same by accident"
    )
    rule = f"at most {RESENT_FRACTION:.0%} of the answered samples were sent again after {LONG_TRY_S:g} s and more"
    severity: Severity = "red" if share > RESENT_FRACTION_RED else "warn"
    return eval_finding(scored, ("resent", severity), rule, evidence, advice)


def _unparsed(scored: ScoredEval) -> Finding | None:
    share = scored.score.unparsed_fraction
    if share is None or share <= UNPARSED_FRACTION:
        return None
    unread = [s for s in scored.samples if scored.outcomes[s.question, s.repeat] == "unparsed"]
    empty = sum(not (s.reply or "").strip() for s in unread)
    evidence: dict[str, float] = {"unparsed_fraction": share, "num_unparsed": len(unread), "num_empty": empty}
    if 2 * empty > len(unread):
        advice = (
            "most of these replies are empty: a reasoning parser that takes the whole reply, or a wrong chat template"
        )
    else:
        advice = (
            "read a few of these replies in the ledger: the model ignores the answer's format (a wrong chat template?)"
        )
    rule = f"at most {UNPARSED_FRACTION:.0%} of the replies have no answer that can be read"
    return eval_finding(scored, ("unparsed", _unparsed_severity(scored)), rule, evidence, advice)


def _unparsed_severity(scored: ScoredEval) -> Severity:
    """Red where the eval would have been stopped: its score is then the grader's, or the format's, not the model's."""
    rules, seen = scored.config.stop_rules, scored.score
    if rules.unparsed is None or seen.num_samples < rules.min_samples:
        return "warn"
    return "red" if rate(seen.counts["unparsed"], seen.num_samples, seen.num_samples).low > rules.unparsed else "warn"


def _format_ignored(scored: ScoredEval) -> Finding | None:
    strict, lenient = scored.score.score, scored.lenient_score
    if strict is None or lenient is None or lenient - strict <= FORMAT_GAP:
        return None
    evidence: dict[str, float] = {"score": strict, "lenient_score": lenient, "gap": lenient - strict}
    advice = (
        "the model knows these answers and gives them in another form than the prompt asks for: look at the chat "
        "template and at a system prompt that came in between, then read a few unparsed replies in the ledger"
    )
    rule = f"answers in another form than the requested one would add at most {FORMAT_GAP:.0%} to the score"
    return eval_finding(scored, ("format_ignored", "warn"), rule, evidence, advice)


def _max_tokens_low(scored: ScoredEval) -> Finding | None:
    limit, needed = scored.config.sampling.max_tokens, scored.evaluation.min_max_tokens
    if limit >= needed or scored.config.rows == "synthetic":
        return None
    evidence: dict[str, float] = {"max_tokens": limit, "recommended_tokens": needed}
    advice = f"raise sampling.max_tokens from {limit} to {needed}: a reply that is cut counts as not correct"
    rule = f"sampling.max_tokens is at least {needed}"
    return eval_finding(scored, ("max_tokens_low", "warn"), rule, evidence, advice)


def _reference_differs(scored: ScoredEval) -> Finding | None:
    if not scored.reference_differs:
        return None
    rule = (
        "the measured reference has the same questions, prompt, sampling, route and graders; it differs in "
        f"{'; '.join(scored.reference_differs)}"
    )
    advice = (
        "nothing is held against it. Measure the reference again with this configuration on the accepted target, and "
        "save it with raybench report RUN_DIR --save-reference FILE"
    )
    evidence = {"num_differences": float(len(scored.reference_differs))}
    return eval_finding(scored, ("reference_differs", "warn"), rule, evidence, advice)


def _identical_repeats(scored: ScoredEval) -> Finding | None:
    if scored.config.sampling.temperature == 0:
        return None
    replies: dict[str, list[str]] = defaultdict(list)
    for sample in scored.samples:
        if scored.outcomes[sample.question, sample.repeat] != "errored" and _is_long(sample):
            replies[sample.question].append(sample.reply or "")
    num_pairs = sum(_pairs(len(texts)) for texts in replies.values())
    num_same = sum(_pairs(number) for texts in replies.values() for number in Counter(texts).values())
    if num_pairs == 0 or num_same / num_pairs <= IDENTICAL_FRACTION:
        return None
    evidence: dict[str, float] = {"identical_fraction": num_same / num_pairs, "num_pairs": num_pairs}
    advice = (
        "the repeats are not independent, so intervals are too narrow: look for a response cache, and for an engine in "
        "deterministic mode that ignores the request's seed"
    )
    rule = f"at most {IDENTICAL_FRACTION:.0%} of the pairs of repeats of a question are the same text"
    # Mostly one text: every interval counts one sample many times, and a verdict would rest on it.
    severity: Severity = "red" if num_same > num_pairs / 2 else "warn"
    return eval_finding(scored, ("identical_repeats", severity), rule, evidence, advice)


def _is_long(sample: SampleRecord) -> bool:
    return len(sample.reply or "") >= MIN_REPEATED_CHARS


def _pairs(number: int) -> int:
    return number * (number - 1) // 2


def _letter_bias(scored: ScoredEval) -> Finding | None:
    if not scored.evaluation.letters:
        return None
    wrong = list(_wrong_letters(scored.evaluation, scored.samples, scored.outcomes))
    if len(wrong) < MIN_WRONG_LETTERS * len(scored.evaluation.letters) / 4:
        return None
    letters = scored.evaluation.letters
    given = Counter(letter for letter, _ in wrong)
    # Right answers follow the draw of the options; a wrong one could as well be any of the other letters.
    expected = dict.fromkeys(letters, 0.0)
    for _, others in wrong:
        for letter in others:
            expected[letter] += 1 / len(others)
    statistic = sum((given[letter] - number) ** 2 / number for letter, number in expected.items() if number > 0)
    p_value = chi_square_p(statistic, max(1, sum(number > 0 for number in expected.values()) - 1))
    if p_value >= LETTER_BIAS_P:
        return None
    evidence: dict[str, float] = {}
    for letter in letters:
        evidence |= {f"num_{letter}": given[letter], f"expected_{letter}": expected[letter]}
    evidence["p_value"] = p_value
    advice = "the options are shuffled, so a model that errs favours no letter: it guesses, or answers are misread"
    rule = f"wrong answers fall evenly on the letters that were wrong (chi-square, p at least {LETTER_BIAS_P:g})"
    return eval_finding(scored, ("letter_bias", "warn"), rule, evidence, advice)


def _wrong_letters(
    evaluation: Eval, samples: Sequence[SampleRecord], graded: dict[tuple[str, int], Outcome]
) -> Iterable[tuple[str, str]]:
    """(letter that was given, letters that were wrong) of every incorrect answer."""
    for sample in samples:
        if graded[sample.question, sample.repeat] != "incorrect":
            continue
        num_options = len(sample.letter_order or evaluation.letters)
        others = evaluation.letters[:num_options].replace(sample.gold, "")
        value = evaluation.extract(sample.reply or "", sample.finish_reason).value
        if value is not None and value in others:
            yield value, others
