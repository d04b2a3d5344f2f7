# pyright: reportPrivateImportUsage=false
"""The workspace and the report as code. Serialised without a network; saved by `raybench.publish.view_store`.

Every line plot names its x: the UI has ignored the default that `define_metric` sets (wandb#11533). Runs are chosen by
their group, which is an attribute of the run: filters by configuration keys have two spellings.
"""

from collections.abc import Sequence

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from raybench.publish import serving, view_text
from raybench.publish.comparison import Compared
from raybench.publish.content import RunContent
from raybench.publish.names import CURVES, SERVING_X, X_AXIS, segment
from raybench.publish.palette import color_of

MAX_RUNS = 50
MAX_PINNED = 6
PER_USER, PER_GPU = "interactivity_tok_s_user", "output_tok_s_per_gpu"
MANY_ARMS = 5
"""From here on panels for many runs are worth their place."""


def workspace(compared: Compared, runs: Sequence[RunContent], entity: str, project: str) -> ws.Workspace:
    """The workspace of one comparison: all its runs, the first target as baseline of every column."""
    ids = [arm.run_id for arm in compared.arms]
    keys = _pinned(compared, runs)
    loads = serving_loads(compared)
    return ws.Workspace(
        entity=entity, project=project, name=f"raybench {compared.id.removeprefix('rb-')}",
        sections=[
            _section("Performance", performance(compared), is_open=True),
            *([_section("Serving", loads, is_open=True)] if loads else []),
            _section("Accuracy", accuracy(compared), is_open=True),
            _section("Start-up", start_up(runs), is_open=False),
            _section("Energy", energy(compared, runs), is_open=False),
            _section("Compare", comparison(compared), is_open=True),
        ],
        settings=ws.WorkspaceSettings(max_runs=MAX_RUNS, smoothing_type="none", x_axis=X_AXIS),
        runset_settings=ws.RunsetSettings(
            filters=_filter(compared), baseline_run=ids[0], pinned_columns=[f"summary:{key}" for key in keys],
            run_settings={run_id: ws.RunSettings(color=color_of(number)) for number, run_id in enumerate(ids)},
        ),
    )  # fmt: skip


def report(compared: Compared, runs: Sequence[RunContent], entity: str, project: str) -> wr.Report:
    """The report: what to know first, then ratios, curves, accuracy, start-up, configuration, how to get it again."""
    loads = serving_loads(compared)
    return wr.Report(
        entity=entity, project=project, title=compared.title,
        description="Made by raybench from the ledger; published anew, it is overwritten.",
        width="fluid",
        blocks=[
            wr.TableOfContents(),
            wr.H1("Verdict and findings"), wr.MarkdownBlock(view_text.summary(compared)),
            wr.H1("Ratios"), wr.MarkdownBlock(view_text.ratios(compared)),
            wr.H1("Performance"), _panels(compared, performance(compared)),
            *(
                [wr.H1("Serving"), wr.MarkdownBlock(view_text.serving(compared)), _panels(compared, loads)]
                if loads
                else []
            ),
            wr.H1("Accuracy"), wr.MarkdownBlock(view_text.scores(compared)), _panels(compared, accuracy(compared)),
            wr.H1("Start-up"), wr.MarkdownBlock(view_text.start_up(compared)), _panels(compared, start_up(runs)),
            wr.H1("Configuration"), wr.MarkdownBlock(view_text.differences(compared)),
            _panels(compared, [wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=12))]),
            wr.H1("Figures and tables"), _panels(compared, comparison(compared)[1:]),
            wr.H1("How to reproduce"), wr.MarkdownBlock(view_text.reproduce(compared)),
        ],
    )  # fmt: skip


def performance(compared: Compared) -> list[wr.LinePlot]:
    """Curves over the batch size, and throughput per GPU against interactivity per user."""
    if not any(arm.perf for arm in compared.arms):
        return []
    sweeps = list(dict.fromkeys(row.sweep for arm in compared.arms for row in arm.perf))
    # A run's rows of all sweeps under one name would be one line, from the largest batch of one to the smallest of
    # the next: where a run has several, each has names of its own.
    several = any(len({row.sweep for row in arm.perf}) > 1 for arm in compared.arms)
    places = [(f"{sweep}: ", f"perf/{segment(sweep)}/") for sweep in sweeps] if several else [("", "perf/")]
    panels: list[wr.LinePlot] = []
    for about, prefix in places:
        panels += [
            _line(compared, f"{about}{title} over batch size (requests in flight)", X_AXIS, prefix + name, log_x=True,
                  unit=unit)
            for title, name, unit in CURVES if name != PER_USER
        ]  # fmt: skip
        panels.append(
            _line(compared, f"{about}tokens/s/GPU against tokens/s/user", prefix + PER_USER, prefix + PER_GPU,
                  log_x=False, unit="tok/s/GPU")
        )  # fmt: skip
    return panels


def serving_loads(compared: Compared) -> list[wr.LinePlot]:
    """Curves of every sweep over what it varies."""
    rows = {row.sweep: row for arm in compared.arms for row in arm.serving}
    return [
        _line(compared, f"{sweep}: {title} over {serving.axis_of(row)}", SERVING_X,
              f"serving/{segment(sweep)}/{name}", log_x=False, unit=unit)
        for sweep, row in rows.items()
        for title, name, unit in serving.CURVES
    ]  # fmt: skip


def accuracy(compared: Compared) -> list[wr.BarPlot | wr.MediaBrowser]:
    """Scores beside their references, and the figure with the intervals, which W&B cannot draw for one run."""
    names = list(dict.fromkeys(row.eval for arm in compared.arms for row in arm.evals))
    if not names:
        return []
    bars: list[wr.BarPlot | wr.MediaBrowser] = [
        wr.BarPlot(
            title=name, metrics=[f"eval/{segment(name)}/score", f"eval/{segment(name)}/baseline"], orientation="v",
            max_runs_to_show=MAX_RUNS,
        )
        for name in names
    ]  # fmt: skip
    return [*bars, wr.MediaBrowser(title="Scores with 95% intervals", media_keys=["figures/accuracy"], num_columns=1)]


def start_up(runs: Sequence[RunContent]) -> list[wr.BarPlot]:
    """A bar per phase and run."""
    phases = list(dict.fromkeys(key for run in runs for key in run.summary if key.startswith("startup/")))
    if not phases:
        return []
    return [wr.BarPlot(title="Start-up phases (s)", metrics=[*phases], orientation="h", max_runs_to_show=MAX_RUNS)]


def energy(compared: Compared, runs: Sequence[RunContent]) -> list[wr.LinePlot | wr.BarPlot]:
    """Power over the batch size, joules per token; nothing where no GPU tells."""
    found: list[wr.LinePlot | wr.BarPlot] = []
    if any("perf/power_w" in row.values for run in runs for row in run.history):
        found.append(_line(compared, "Power of all GPUs", X_AXIS, "perf/power_w", log_x=True, unit="W"))
    keys = [key for run in runs for key in run.summary if key.endswith("/joules_per_output_token")]
    if keys:
        metrics = list(dict.fromkeys(keys))
        found.append(wr.BarPlot(title="Joules per output token", metrics=[*metrics], orientation="v"))
    return found


Comparison = wr.RunComparer | wr.MediaBrowser | wr.WeavePanelSummaryTable | wr.ParallelCoordinatesPlot


def comparison(compared: Compared) -> list[Comparison]:
    """Differences of configuration and results, the figures, and the joined tables."""
    found: list[Comparison] = [
        wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=12)),
        wr.MediaBrowser(title="Figures", media_keys=["figures/throughput", "figures/interactivity"], num_columns=2),
        *(wr.WeavePanelSummaryTable(table_name=table.name) for table in compared.tables),
    ]
    if len(compared.arms) >= MANY_ARMS:
        columns = ("perf/peak_output_tok_s", "startup/total_s")
        found.append(
            wr.ParallelCoordinatesPlot(
                title="Targets", columns=[wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(c)) for c in columns]
            )
        )
    return found


def _line(compared: Compared, title: str, x: str, y: str, *, log_x: bool, unit: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=title, x=x, y=[y], log_x=log_x, title_y=unit, smoothing_type="none", max_runs_to_show=MAX_RUNS,
        line_colors={f"{arm.run_id}:{y}": color_of(number) for number, arm in enumerate(compared.arms)},
    )  # fmt: skip


def _panels(compared: Compared, panels: Sequence[object]) -> wr.PanelGrid:
    # Entity and project stay empty: given, the library asks the service for the project's internal id.
    runs = wr.Runset(name="targets", filters=_filter(compared))
    return wr.PanelGrid(runsets=[runs], panels=[*panels])  # pyright: ignore[reportArgumentType]


def _filter(compared: Compared) -> str:
    groups = list(dict.fromkeys((*(arm.group for arm in compared.arms), compared.group)))
    return f"Group = '{groups[0]}'" if len(groups) == 1 else f"Group in {groups!r}"


def _pinned(compared: Compared, runs: Sequence[RunContent]) -> list[str]:
    """Columns that everybody looks for: output throughput at the largest batches, scores, validity."""
    keys = {key for run in runs for key in run.summary}
    points = sorted({(row.batch_size, row.sweep) for arm in compared.arms for row in arm.perf}, reverse=True)
    wanted = ["raybench/validity", "perf/peak_output_tok_s", "serving/peak_output_tok_s"]
    wanted += [f"eval/{segment(name)}/score" for name in dict.fromkeys(r.eval for a in compared.arms for r in a.evals)]
    for size, sweep in points:
        wanted += [f"perf/bs{size}/output_tok_s", f"perf/{segment(sweep)}/bs{size}/output_tok_s"]
    return [key for key in wanted if key in keys][:MAX_PINNED]


def _section(name: str, panels: Sequence[object], *, is_open: bool) -> ws.Section:
    grid = ws.SectionLayoutSettings(columns=2, rows=2)
    pinned = name == "Performance"
    return ws.Section(name=name, panels=[*panels], is_open=is_open, pinned=pinned, layout_settings=grid)  # pyright: ignore[reportArgumentType]
