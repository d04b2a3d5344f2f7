"""Scores, intervals and verdicts of evals in words. Pure; shared by all pages."""

from raybench.report import numbers
from raybench.report.model import EvalRow, ReferenceInUse
from raybench.stats.accuracy import AccuracyScore, Interval
from raybench.stats.gate import Gate, Standing

OTHER_HARNESS = "another harness's number"
MISSING = "samples missing: short replies come back first"
"""Why an eval that is not whole is compared with nothing."""


def eval_sentence(row: EvalRow) -> str:
    """Everything about one eval on one target in a line: score, both intervals, what it is held against, rates."""
    text = f"**{row.eval}** on **{row.target}**: {' | '.join(eval_parts(row))}"
    return f"{text}. Findings: {codes_text(row.findings)}." if row.findings else f"{text}."


def eval_parts(row: EvalRow) -> list[str]:
    """The parts of that line."""
    parts = [score_text(row), *interval_parts(row.accuracy), *against_parts(row), rates_text(row.accuracy)]
    if row.synthetic:
        parts.append("stand-in questions: says nothing about the model")
    return parts


def score_text(row: EvalRow) -> str:
    """`avg@16 = 69.4%`; with one repeat the count stands for the number of samples: `21/30 = 70.0%`."""
    seen = row.accuracy
    if seen.score is None:
        return "no score"
    what = f"avg@{seen.num_repeats}" if seen.num_repeats > 1 else f"{seen.counts.get('correct', 0)}/{seen.num_scored}"
    return f"{what} = {numbers.score(seen.score)}%"


def interval_parts(seen: AccuracyScore) -> list[str]:
    """Both intervals, each by its name; with one repeat there is one, and for this exam it is an upper bound."""
    if seen.exam is None or seen.population is None:
        return []
    if is_bound(seen):
        return [f"question population, 95%: {ends_text(seen.population)} (this exam: at most as wide)"]
    return [f"this exam, 95%: {ends_text(seen.exam)}", f"question population, 95%: {ends_text(seen.population)}"]


def is_bound(seen: AccuracyScore) -> bool:
    """True if the interval of this exam is an upper bound of its width: no question was answered twice."""
    return seen.exam is not None and seen.exam.method == "wilson"


def ends_text(interval: Interval | None) -> str:
    """The ends of an interval in percent."""
    return numbers.NONE if interval is None else f"{numbers.score(interval.low)}-{numbers.score(interval.high)}"


def against_parts(row: EvalRow) -> list[str]:
    """The verdict, or why there is none, and what is shown beside it without a verdict."""
    seen = row.accuracy
    if row.invalid_by:
        return [f"no verdict: {codes_text(row.invalid_by)}"]
    parts = [] if seen.gate is None else [gate_text(row, seen.gate)]
    if row.reference is not None and row.reference.differs:
        parts.append(f"not held against the reference: {'; '.join(row.reference.differs)}")
    return [*parts, *(_standing_text(standing, row.reference) for standing in seen.standings)]


def gate_text(row: EvalRow, gate: Gate) -> str:
    """What the score is held against, by how much it differs, and the verdict with its meaning."""
    text = f"vs {known_text(gate.against, gate.baseline, row.reference)}: {numbers.points(gate.difference)} points"
    sided = f"one-sided {100 * gate.confidence:.3g}%"
    match gate.verdict:
        case "PASS":
            bound = f"{sided} lower bound {numbers.points(gate.lower)}"
            verdict = f"PASS: not more than {100 * gate.margin:g} points below"
        case "FAIL":
            bound = f"{sided} upper bound {numbers.points(gate.upper)}"
            verdict = "FAIL: below"
        case _:
            bound = f"{sided} bounds {numbers.points(gate.lower)} and {numbers.points(gate.upper)}"
            verdict = _no_verdict(row.accuracy, gate)
    return f"{text} ({bound}) -> {verdict}"


def _no_verdict(seen: AccuracyScore, gate: Gate) -> str:
    missing = seen.num_missing
    if gate.verdict == "INCOMPLETE":
        return f"no verdict: {missing:,} of {seen.num_planned:,} samples are missing"
    if gate.repeats_needed is None:
        reason = "the reference itself is too coarse" if gate.reference_standard_error else "no margin to decide by"
        return f"INCONCLUSIVE: no number of repeats decides, {reason}"
    few = "too few samples to confirm or reject; " if seen.num_repeats == 1 else ""
    return f"INCONCLUSIVE: {few}needs K >= {gate.repeats_needed:,}"


def _standing_text(standing: Standing, reference: ReferenceInUse | None) -> str:
    known = known_text(standing.against, standing.reference, reference)
    ends = f"{numbers.points(standing.low)} to {numbers.points(standing.high)}"
    return f"beside {known}: {numbers.points(standing.difference)} points, 95%: {ends} (shown, not gated)"


def known_text(against: str, value: float, reference: ReferenceInUse | None) -> str:
    """A reference score and whose it is."""
    if against == "published" or reference is None:
        return f"published {numbers.score(value)} ({OTHER_HARNESS})"
    return f"reference {numbers.score(value)} ({reference.target}, {reference.engine}, avg@{reference.repeats})"


def rates_text(seen: AccuracyScore) -> str:
    """Rates that never merge with the score."""
    truncated, unparsed = (
        numbers.percent(seen.counts.get(name, 0), seen.num_scored) if seen.num_scored else "0.0%"
        for name in ("truncated", "unparsed")
    )
    errors = seen.counts.get("errored", 0)
    text = f"{truncated} truncated, {unparsed} unparsed, {errors:,} {'error' if errors == 1 else 'errors'}"
    text += f" of {seen.num_samples:,}"
    missing = seen.num_missing
    if missing:
        worst, best = numbers.score(seen.worst), numbers.score(seen.best)
        text += f", {missing:,} missing (score between {worst} and {best} with them)"
    return text


def timed_text(row: EvalRow) -> str:
    """Whether the configuration that answered is the one that was timed."""
    timed = row.timed
    if timed is None:
        return "nothing answered"
    match timed.status:
        case "timed":
            return f"the configuration that was timed ({timed.configuration})"
        case "another":
            shown = list(timed.differences[:4])
            if len(timed.differences) > len(shown):
                shown.append(f"and {len(timed.differences) - len(shown)} more")
            return f"another configuration than was timed: {'; '.join(shown)}"
        case "nothing_timed":
            return "nothing was timed in this run"


def codes_text(codes: tuple[str, ...]) -> str:
    """Codes of findings, as pages write them."""
    return ", ".join(f"`{code}`" for code in codes)
