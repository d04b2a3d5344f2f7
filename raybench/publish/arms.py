"""What is compared: targets of one run folder, or of several, each with everything that a comparison reads. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from raybench.config.evals import EvalConfig
from raybench.publish.names import display_label, slug
from raybench.publish.targets import Source, display_name
from raybench.records import Outcome, SampleRecord
from raybench.report.model import EvalRow, PerfRow, StartUpRow, TargetRow
from raybench.report.serving_model import LoadRow, SearchRow
from raybench.validity.accuracy import ScoredEval

_DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class Graded:
    """One eval of one arm, sample by sample."""

    outcomes: dict[tuple[str, int], Outcome]
    samples: dict[tuple[str, int], SampleRecord]
    asked: dict[str, str]
    """What was asked and how: route, digest of questions and prompts, every sampling field. Where one of them differs,
    scores are of two different exams."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One target of one run."""

    label: str
    """Name in tables: the target's, with the run's id where several runs are compared."""
    run_id: str
    """Id of its run in a sink."""
    group: str
    """Group of that run."""
    title: str
    """Name of that run."""
    target: TargetRow
    verdict: str
    model: str
    """Model that the run's configuration names."""
    raybench_version: str
    """Version that measured, in the run's last session."""
    perf: tuple[PerfRow, ...]
    evals: tuple[EvalRow, ...]
    startup: tuple[StartUpRow, ...]
    serving: tuple[LoadRow, ...] = ()
    searches: tuple[SearchRow, ...] = ()
    settings: tuple[EvalConfig, ...] = ()
    """Settings of the run's evals."""
    graded: dict[str, Graded] = field(default_factory=dict[str, Graded])
    """By eval name."""

    @property
    def key(self) -> str:
        """The label as part of a name."""
        return slug(self.label, "_")


def arms(sources: Sequence[Source]) -> tuple[Arm, ...]:
    """All targets of the folders, in the order of the folders and of their plans; the first is the baseline."""
    return tuple(arm for source in sources for arm in _of(source, several=len(sources) > 1))


def _of(source: Source, *, several: bool) -> list[Arm]:
    report = source.report
    graded: dict[str, dict[str, Graded]] = {}
    for scored in source.scored:
        samples = {(sample.question, sample.repeat): sample for sample in scored.samples}
        asked = _asked(scored)
        graded.setdefault(scored.target, {})[scored.config.name] = Graded(scored.outcomes, samples, asked)
    return [
        Arm(
            label=display_label(target.name, source.sweep if several else None),
            run_id=source.run_id(target.name), group=source.group, title=display_name(source, target), target=target,
            verdict=report.verdict, model=report.provenance.model,
            raybench_version=report.provenance.sessions[-1].raybench_version,
            perf=tuple(row for row in report.perf if row.target == target.name),
            evals=tuple(row for row in report.evals if row.target == target.name),
            startup=tuple(row for row in report.startup if row.target == target.name),
            serving=tuple(row for row in report.serving if row.target == target.name),
            searches=tuple(row for row in report.searches if row.target == target.name),
            settings=source.view.config.evals, graded=graded.get(target.name, {}),
        )
        for target in report.targets
    ]  # fmt: skip


def _asked(scored: ScoredEval) -> dict[str, str]:
    """The same names for every eval."""
    settings = scored.config
    prompts = scored.prompts_sha256[:_DIGEST_CHARS]
    sampling = {name: str(value) for name, value in settings.sampling.model_dump().items()}
    return {"route": settings.route, "questions and prompts": prompts, **sampling}
