"""Measured references out of a run: what its evals scored, for the gates of later runs. Pure."""

from datetime import UTC, datetime

from raybench.config.reference import MeasuredReference, NumericsReference
from raybench.errors import ConfigError
from raybench.evals.grade import GRADER_VERSION
from raybench.ledger.view import RunView
from raybench.report.model import EvalRow, Report, TargetRow
from raybench.stats.accuracy import correct_by_question, counts_of
from raybench.validity.accuracy import ScoredEval, scored_evals
from raybench.validity.preflight import counting_checks


def measured_references(view: RunView, report: Report, target: str | None) -> tuple[MeasuredReference, ...]:
    """An entry for each eval of a target; None = the run's only one.

    A reference must be whole and without a red finding, for every later verdict stands on it: else ConfigError.
    """
    row = _target(report, target)
    scored = [each for each in scored_evals(view) if each.target == row.name]
    if not scored:
        raise ConfigError(f"there is no eval on {row.name} in this run, so there is nothing to save as a reference")
    rows = {each.eval: each for each in report.evals if each.target == row.name}
    return tuple(_entry(view, each, rows[each.config.name], row) for each in scored)


def measured_numerics(view: RunView, report: Report, target: str | None) -> NumericsReference | None:
    """Log-probabilities as the target's first node gave them; None where none gave any."""
    row = _target(report, target)
    seen = [each.measurement for each in counting_checks(view) if each.measurement.target == row.name]
    measured = next((each for each in seen if each.check == "numerics" and each.texts), None)
    if measured is None:
        return None
    return NumericsReference(
        target=row.name, model=_last_part(view.config.model.path),
        model_revision=next(iter(row.model_revisions), view.config.model.revision), engine=row.engine,
        engine_version=next(iter(row.engine_versions), None), accelerator=row.accelerator,
        gpus_per_node=row.gpus_per_node, texts=measured.texts, date=report_day(view), run_id=view.run.run_id,
        raybench_version=view.sessions[-1].raybench_version,
    )  # fmt: skip


def _target(report: Report, name: str | None) -> TargetRow:
    names = [target.name for target in report.targets]
    if name is None and len(names) > 1:
        raise ConfigError(f"a reference is of one target: name it with --target ({', '.join(names)})")
    if name is not None and name not in names:
        raise ConfigError(f"--target {name}: targets of this run are {', '.join(names)}")
    return next(target for target in report.targets if name in (None, target.name))


def _entry(view: RunView, scored: ScoredEval, row: EvalRow, target: TargetRow) -> MeasuredReference:
    seen, name = scored.score, f"{scored.config.name} on {scored.target}"
    if row.invalid_by:
        raise ConfigError(f"{name} is INVALID ({', '.join(row.invalid_by)}): it cannot be a reference")
    if seen.num_missing or seen.score is None or seen.standard_error is None:
        raise ConfigError(
            f"{name} misses {seen.num_missing} of {seen.num_planned} samples: finish the run with --resume first"
        )
    made = report_day(view)
    return MeasuredReference(
        eval=scored.config.name, target=scored.target, model=_last_part(view.config.model.path),
        model_revision=next(iter(target.model_revisions), view.config.model.revision), engine=target.engine,
        engine_version=next(iter(target.engine_versions), None), accelerator=target.accelerator,
        gpus_per_node=target.gpus_per_node, simulated=target.simulated, prompts_sha256=scored.prompts_sha256,
        sampling=scored.config.sampling, route=scored.config.route, grader=GRADER_VERSION,
        repeats=seen.num_repeats, num_questions=seen.num_questions,
        num_scored=seen.num_scored, score=round(seen.score, 6), standard_error=round(seen.standard_error, 6),
        truncated_fraction=_rounded(seen.truncated_fraction), unparsed_fraction=_rounded(seen.unparsed_fraction),
        questions=counts_of(correct_by_question(scored.outcomes)), date=made, run_id=view.run.run_id,
        raybench_version=view.sessions[-1].raybench_version,
    )  # fmt: skip


def report_day(view: RunView) -> str:
    """Day of the run's last record, UTC."""
    return datetime.fromtimestamp(view.last_t, UTC).strftime("%Y-%m-%d")


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _last_part(path: str) -> str:
    """A hub id as it is; of a path only its last part: the file is to be published."""
    if path.startswith(("/", "~", ".")) or path.count("/") > 1:
        return path.rstrip("/").rsplit("/", 1)[-1]
    return path
