"""Checks of the replies themselves: do they loop, run on after their answer, or stop where they should not?"""

from collections import Counter
from collections.abc import Mapping

from raybench.records import Finding, SampleRecord, Sign
from raybench.stats.rates import Rate
from raybench.validity.accuracy import ScoredEval, eval_finding

LOOPING_FRACTION = 0.01
RUN_ON_FRACTION = 0.02
STRAY_STOP_FRACTION = 0.01
THOUGHTS_ONLY_FRACTION = 0.02
SAME_LENGTH_FRACTION = 0.20
MIN_SAME_LENGTH_TOKENS = 200
"""Short replies (a sum in a box) have the same length by right."""
MIN_SAME_LENGTH_REPLIES = 10


def reply_findings(scored: ScoredEval, rates: Mapping[Sign, Rate]) -> list[Finding]:
    """Findings about the replies of one eval on one target."""
    found = [_looping(scored, rates["looping"]), _run_on(scored, rates["run_on"]), _stray_stop(scored)]
    return [finding for finding in [*found, _thoughts_only(scored), _same_length(scored)] if finding is not None]


def _answered(scored: ScoredEval) -> list[SampleRecord]:
    return [s for s in scored.samples if scored.outcomes[s.question, s.repeat] != "errored"]


def _looping(scored: ScoredEval, rate: Rate) -> Finding | None:
    if rate.fraction is None or rate.fraction <= LOOPING_FRACTION:
        return None
    rule = f"at most {LOOPING_FRACTION:.0%} of the replies end in endless repetition"
    evidence: dict[str, float] = {"looping_fraction": rate.fraction, "num_looping": rate.num}
    advice = (
        "a longer limit does not help: check temperature and penalties against the model's card (greedy decoding "
        "loops), then the numerics of the engine"
    )
    return eval_finding(scored, ("looping", "warn"), rule, evidence, advice)


def _run_on(scored: ScoredEval, rate: Rate) -> Finding | None:
    if rate.fraction is None or rate.fraction <= RUN_ON_FRACTION:
        return None
    rule = f"at most {RUN_ON_FRACTION:.0%} of the replies go on after their answer, or begin another turn"
    evidence: dict[str, float] = {"run_on_fraction": rate.fraction, "num_run_on": rate.num}
    advice = (
        "the end of a turn is not seen: a wrong chat template, or an end-of-turn token that the engine does not know"
    )
    return eval_finding(scored, ("run_on", "warn"), rule, evidence, advice)


def _stray_stop(scored: ScoredEval) -> Finding | None:
    answered = _answered(scored)
    # raybench sends no stop words: a text that ended a reply was put there by the server's template or defaults.
    words = [s.matched_stop for s in answered if isinstance(s.matched_stop, str)]
    if not answered or len(words) / len(answered) <= STRAY_STOP_FRACTION:
        return None
    rule = f"at most {STRAY_STOP_FRACTION:.0%} of the replies are ended by a stop word, for none is sent"
    evidence: dict[str, float] = {"stray_stop_fraction": len(words) / len(answered), "num_stray_stop": len(words)}
    advice = (
        f"the server adds stop words of its own, {Counter(words).most_common(1)[0][0]!r} among them: see its template"
    )
    return eval_finding(scored, ("stray_stop", "warn"), rule, evidence, advice)


def _thoughts_only(scored: ScoredEval) -> Finding | None:
    answered = _answered(scored)
    empty = [s for s in answered if s.finish_reason != "length" and not (s.reply or "").strip() and s.reasoning_chars]
    if not answered or len(empty) / len(answered) <= THOUGHTS_ONLY_FRACTION:
        return None
    rule = f"at most {THOUGHTS_ONLY_FRACTION:.0%} of the replies are empty while the server keeps a text of thoughts"
    evidence: dict[str, float] = {"thoughts_only_fraction": len(empty) / len(answered), "num_thoughts_only": len(empty)}
    advice = "the engine's reasoning parser takes the whole reply for thoughts: start it without --reasoning-parser"
    return eval_finding(scored, ("thoughts_only", "red"), rule, evidence, advice)


def _same_length(scored: ScoredEval) -> Finding | None:
    """A reply that was cut by something that calls it a stop."""
    by_text = {
        sample.reply: sample.output_tokens
        for sample in _answered(scored)
        if sample.finish_reason != "length" and (sample.output_tokens or 0) >= MIN_SAME_LENGTH_TOKENS
    }
    if len(by_text) < MIN_SAME_LENGTH_REPLIES:
        return None
    tokens, number = Counter(by_text.values()).most_common(1)[0]
    if number / len(by_text) <= SAME_LENGTH_FRACTION:
        return None
    rule = f"at most {SAME_LENGTH_FRACTION:.0%} of the long replies have one and the same length"
    evidence: dict[str, float] = {
        "same_length_fraction": number / len(by_text), "num_same_length": number, "length_tokens": float(tokens or 0)
    }  # fmt: skip
    advice = "something cuts replies at this length and calls it a stop: a proxy, a gateway, or a server's own limit"
    return eval_finding(scored, ("same_length", "red"), rule, evidence, advice)
