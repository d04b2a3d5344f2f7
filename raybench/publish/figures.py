"""Figures that W&B cannot draw from runs: intervals of one run, and curves whose points have an order of their own.

Drawn without a browser and without a network, as SVG, for the artifact and for W&B's media panel.
"""

from collections.abc import Sequence

import altair as alt
import vl_convert

from raybench.publish.arms import Arm
from raybench.publish.comparison import Compared
from raybench.publish.content import Attachment, Cell
from raybench.publish.palette import color_of
from raybench.report.model import EvalRow, PerfRow

WIDTH, HEIGHT = 420, 260


def figures(compared: Compared) -> tuple[Attachment, ...]:
    """Figures for which there is data."""
    points = [_point(arm, row) for arm in compared.arms for row in arm.perf if row.repeats]
    scores = [_score(arm, row) for arm in compared.arms for row in arm.evals if row.accuracy.score is not None]
    drawn: list[Attachment] = []
    if points:
        drawn.append(_svg("throughput.svg", _throughput(points, compared.arms)))
    if any(None not in (point["tok_s_gpu"], point["tok_s_user"]) for point in points):
        drawn.append(_svg("interactivity.svg", _interactivity(points, compared.arms)))
    if scores:
        drawn.append(_svg("accuracy.svg", _accuracy(scores, compared.arms)))
    return tuple(drawn)


def _point(arm: Arm, row: PerfRow) -> dict[str, Cell]:
    output, itl = row.output_tok_per_s, row.itl_ms
    return {
        "target": arm.label, "sweep": row.sweep, "batch_size": row.batch_size,
        "tok_s": output.median if output else None, "low": output.min if output else None,
        "high": output.max if output else None, "tok_s_gpu": row.output_tok_per_s_per_gpu,
        "tok_s_user": 1000 / itl.median if itl and itl.median > 0 else None,
    }  # fmt: skip


def _score(arm: Arm, row: EvalRow) -> dict[str, Cell]:
    seen = row.accuracy
    return {
        "target": arm.label, "eval": row.eval, "score": seen.score, "low": seen.exam.low if seen.exam else None,
        "high": seen.exam.high if seen.exam else None, "baseline": seen.gate.baseline if seen.gate else None,
    }  # fmt: skip


def _color(arms: Sequence[Arm]) -> alt.Color:
    labels = [arm.label for arm in arms]
    scale = alt.Scale(domain=labels, range=[color_of(number) for number in range(len(labels))])
    return alt.Color("target:N", scale=scale, title=None)


def _data(rows: list[dict[str, Cell]]) -> alt.Data:
    return alt.Data(values=rows)


def _throughput(points: list[dict[str, Cell]], arms: Sequence[Arm]) -> alt.LayerChart | alt.FacetChart:
    base = alt.Chart(_data(points)).encode(
        x=alt.X("batch_size:Q", scale=alt.Scale(type="log", base=2), title="batch size"),
        color=_color(arms),
        detail="sweep:N",
    )
    lines = base.mark_line(point=True).encode(y=alt.Y("tok_s:Q", title="output tok/s, median and range"))
    ranges = base.mark_rule().encode(y="low:Q", y2="high:Q")
    return (lines + ranges).properties(width=WIDTH, height=HEIGHT, title="Output throughput")


def _interactivity(points: list[dict[str, Cell]], arms: Sequence[Arm]) -> alt.Chart:
    whole = [point for point in points if None not in (point["tok_s_gpu"], point["tok_s_user"])]
    chart = alt.Chart(_data(whole)).mark_line(point=True)
    return chart.encode(
        x=alt.X("tok_s_user:Q", title="output tok/s per user", scale=alt.Scale(zero=False)),
        y=alt.Y("tok_s_gpu:Q", title="output tok/s per GPU"),
        # Along the batch sizes, not along x: two of them may be equally fast for a user.
        order="batch_size:Q",
        color=_color(arms),
        detail="sweep:N",
    ).properties(width=WIDTH, height=HEIGHT, title="Throughput against interactivity")


def _accuracy(scores: list[dict[str, Cell]], arms: Sequence[Arm]) -> alt.LayerChart | alt.FacetChart:
    side = alt.XOffset("target:N", sort=[arm.label for arm in arms])
    share = alt.Scale(domain=[0, 1])
    base = alt.Chart(_data(scores)).encode(x=alt.X("eval:N", title=None, axis=alt.Axis(labelAngle=0)), xOffset=side)
    bars = base.mark_bar().encode(y=alt.Y("score:Q", scale=share, title="score, 95% interval"), color=_color(arms))
    ranges = base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q")
    marks = base.mark_tick(color="black", thickness=2, size=30).encode(y="baseline:Q")
    return (bars + ranges + marks).properties(width=WIDTH, height=HEIGHT, title="Accuracy (tick: reference)")


def _svg(name: str, chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> Attachment:
    drawn = vl_convert.vegalite_to_svg(chart.to_dict())
    return Attachment(name, drawn.encode())
