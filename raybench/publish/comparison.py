"""The run that holds the comparison: tables, figures' data, flat ratios, and the artifact. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raybench.config.publish import ShareSamples
from raybench.errors import PublishError
from raybench.publish.arms import Arm, arms
from raybench.publish.content import Attachment, RunContent, Table
from raybench.publish.differences import differences
from raybench.publish.joined import accuracy, questions, speed, summary
from raybench.publish.joined_serving import serving_speed, serving_summary
from raybench.publish.names import RECORDS, finite, last_part, run_ref
from raybench.publish.tables import findings_table
from raybench.publish.targets import TAG_CHARS, Source
from raybench.records import Finding, content_hash

COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that the views show, computed once."""

    id: str
    """Id of the comparison's run."""
    group: str
    """Group of the runs; over several run folders, the comparison's own name."""
    title: str
    """Heading of the report: the targets, the model, the date."""
    arms: tuple[Arm, ...]
    """What is compared; the first is the baseline."""
    speed: Table
    serving: Table
    accuracy: Table
    questions: tuple[Table, ...]
    differences: Table
    """Model, versions, hardware, what evals asked and engine arguments that are not the same on all sides."""
    findings: tuple[Finding, ...]
    """Findings of all folders, red ones first."""
    verdicts: tuple[tuple[str, str], ...]
    """(name of the study with its id, its verdict) by folder."""
    digests: tuple[str, ...]
    """Plan digests, by folder."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """The joined tables that have rows."""
        found = (self.speed, self.serving, self.accuracy, *self.questions, self.differences)
        return tuple(table for table in found if table.rows)


def compare(sources: Sequence[Source], share: ShareSamples, date: str) -> Compared:
    """Compare all targets of the folders with the first one. `date` is for the title.

    Raises PublishError for folders of the same run: its ids and names would stand for two things.
    """
    groups = [source.group for source in sources]
    if len(set(groups)) < len(groups):
        again = next(group for group in groups if groups.count(group) > 1)
        raise PublishError(f"the same run, {again}, was given twice. Compare the folders of different runs.")
    sides = arms(sources)
    models = dict.fromkeys(last_part(source.report.provenance.model) for source in sources)
    # Runs of one study have the same targets: what is held against each other there are the runs.
    labels = [arm.target.name for arm in sides] if len(sources) == 1 else groups
    against = " against ".join(labels[:2]) + (f" and {len(labels) - 2} more" if len(labels) > 2 else "")
    order = {"red": 0, "warn": 1, "info": 2}
    findings = [finding for source in sources for finding in source.report.findings]
    sweep = sources[0].sweep if len(sources) == 1 else content_hash([source.sweep for source in sources], 8)
    return Compared(
        id=run_ref(sweep, COMPARE),
        group=sources[0].group if len(sources) == 1 else f"{COMPARE}-{sweep}",
        # The title becomes part of the report's address: no slash.
        title=f"{against} · {', '.join(model.split('/')[-1] for model in models)} · {date}"[:128],
        arms=sides,
        speed=speed(sides),
        serving=serving_speed(sides),
        accuracy=accuracy(sides),
        questions=questions(sides, share),
        differences=differences(sides),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.severity])),
        verdicts=tuple((source.group, source.report.verdict) for source in sources),
        digests=tuple(source.report.provenance.plan_digest or "none" for source in sources),
    )


def without_samples(compared: Compared) -> Compared:
    """The same for the views, which show no sample: a study's samples are most of its memory."""
    return replace(compared, arms=tuple(replace(arm, graded={}) for arm in compared.arms))


def comparison_run(compared: Compared, sources: Sequence[Source], files: Sequence[Attachment]) -> RunContent:
    """The comparison as one run."""
    models = dict.fromkeys(last_part(source.report.provenance.model) for source in sources)
    num_records = sum(len(source.records) for source in sources)
    found = (*compared.tables, findings_table(list(compared.findings)))
    verdicts = [verdict for _, verdict in compared.verdicts]
    return RunContent(
        id=compared.id,
        name=compared.title,
        group=compared.group,
        job_type="compare",
        tags=tuple(dict.fromkeys(tag[:TAG_CHARS] for tag in (COMPARE, *(v.lower() for v in verdicts)))),
        config=finite({
            "model": ", ".join(models), "baseline": compared.arms[0].label,
            "targets": ", ".join(arm.label for arm in compared.arms), "sweep_id": ", ".join(s.sweep for s in sources),
            "study": ", ".join(dict.fromkeys(s.report.provenance.name for s in sources)),
        }),
        history=(),
        summary={
            RECORDS: num_records,
            "raybench/validity": ", ".join(dict.fromkeys(verdicts)),
            "raybench/simulated": any(source.report.simulated for source in sources),
        } | summary(compared.speed, compared.accuracy, compared.arms)
        | serving_summary(compared.serving, compared.arms),
        last_step=num_records,
        tables=tuple(table for table in found if table.rows),
        attachments=tuple(files),
    )  # fmt: skip
