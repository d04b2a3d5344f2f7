"""From samples to the rows of the accuracy table. Pure."""

from statistics import fmean

from raybench.ledger.view import RunView
from raybench.report.model import EvalRow
from raybench.validity.accuracy import ScoredEval, findings, scored_evals


def eval_rows(view: RunView) -> tuple[EvalRow, ...]:
    """Rows by eval and target, both in the order of the configuration."""
    names = [settings.name for settings in view.config.evals]
    return tuple(_row(scored) for scored in sorted(scored_evals(view), key=lambda s: names.index(s.config.name)))


def _row(scored: ScoredEval) -> EvalRow:
    answered = [sample for sample in scored.samples if scored.outcomes[sample.question, sample.repeat] != "errored"]
    lengths = [sample.output_tokens for sample in answered if sample.output_tokens is not None]
    return EvalRow(
        target=scored.target,
        eval=scored.config.name,
        # An eval without a source (its questions are made by code) is no stand-in for anything.
        synthetic=scored.config.rows == "synthetic" and scored.evaluation.default_rows is not None,
        accuracy=scored.score,
        lenient_score=scored.lenient_score,
        preset=scored.config.preset,
        mean_output_tokens=fmean(lengths) if lengths else None,
        max_output_tokens=max(lengths) if lengths else None,
        mean_duration_s=fmean(sample.duration_s for sample in answered) if answered else None,
        sampling=scored.config.sampling,
        findings=tuple(finding.code for finding in findings(scored)),
    )
