"""From samples to the rows of the accuracy table. Pure."""

from collections.abc import Sequence
from statistics import fmean

from raybench.ledger.view import RunView
from raybench.records import EvalUnit, Finding
from raybench.report.model import EvalRow, ReferenceInUse
from raybench.stats.accuracy import AccuracyScore
from raybench.validity.accuracy import ScoredEval
from raybench.validity.references import unsaid
from raybench.validity.timed import timed_configuration
from raybench.validity.verdict import reds_about


def eval_rows(view: RunView, found: Sequence[Finding], scored: Sequence[ScoredEval]) -> tuple[EvalRow, ...]:
    """Rows by eval and target, both in the order of the configuration; `found` = all findings of the run."""
    names = [settings.name for settings in view.config.evals]
    in_order = sorted(scored, key=lambda s: names.index(s.config.name))
    return tuple(_row(view, one, found) for one in in_order)


def _row(view: RunView, scored: ScoredEval, found: Sequence[Finding]) -> EvalRow:
    place = (scored.target, scored.config.name)
    keys = {k for k, unit in view.units.items() if isinstance(unit, EvalUnit) and (unit.target, unit.eval) == place}
    reds = reds_about(found, *place, keys)
    answered = [sample for sample in scored.samples if scored.outcomes[sample.question, sample.repeat] != "errored"]
    lengths = [sample.output_tokens for sample in answered if sample.output_tokens is not None]
    return EvalRow(
        target=scored.target,
        eval=scored.config.name,
        # An eval without a source (its questions are made by code) is no stand-in for anything.
        synthetic=scored.config.rows == "synthetic" and scored.evaluation.default_rows is not None,
        accuracy=_judged(scored.score, reds),
        lenient_score=scored.lenient_score,
        preset=scored.config.preset,
        mean_output_tokens=fmean(lengths) if lengths else None,
        max_output_tokens=max(lengths) if lengths else None,
        mean_duration_s=fmean(sample.duration_s for sample in answered) if answered else None,
        sampling=scored.config.sampling,
        findings=tuple(dict.fromkeys([*reds, *_own_codes(found, *place)])),
        invalid_by=reds,
        timed=timed_configuration(view, *place),
        reference=_reference(scored),
    )


def _own_codes(found: Sequence[Finding], target: str, eval_name: str) -> list[str]:
    own = [finding for finding in found if (finding.target, finding.eval) == (target, eval_name)]
    return [finding.code for finding in own if finding.severity != "info"]


def _judged(seen: AccuracyScore, reds: tuple[str, ...]) -> AccuracyScore:
    """No verdict that the evidence does not carry: none beside a red check, and none while samples are missing.

    Short replies come back first, so that the answered part of an eval is no fair sample of it.
    """
    if seen.gate is None or not (reds or seen.num_missing):
        return seen
    word = "INVALID" if reds else "INCOMPLETE"
    return seen.model_copy(update={"gate": seen.gate.model_copy(update={"verdict": word, "repeats_needed": None})})


def _reference(scored: ScoredEval) -> ReferenceInUse | None:
    known = scored.config.measured_reference
    if known is None:
        return None
    return ReferenceInUse(
        target=known.target, model=known.model, accelerator=known.accelerator,
        engine=" ".join(filter(None, [known.engine, known.engine_version])), repeats=known.repeats, score=known.score,
        standard_error=known.standard_error, date=known.date, run_id=known.run_id, differs=scored.reference_differs,
        unsaid=unsaid(known),
    )  # fmt: skip
