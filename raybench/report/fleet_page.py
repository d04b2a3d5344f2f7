"""The report's section on the fleet: what was predicted against what came, and what the nodes did meanwhile. Pure."""

from raybench.ledger.bodies import ESTIMATE
from raybench.ledger.view import RunView
from raybench.report.fleet_model import FleetTimes, NodeTimeRow, TargetTimeRow
from raybench.report.tables import Table, markdown_table

TITLE = "## Fleet"
LEAD = (
    "Predicted before anything was started, from earlier runs where some were given. Seconds of the last session, by "
    "the driver's clock. Idle is a node with neither a unit nor an engine on its way up."
)


def fleet_times(view: RunView) -> FleetTimes | None:
    """Prediction and outcome; None where nothing was predicted, as in ledgers of older versions."""
    predicted = {d.target: d.numbers for d in view.decisions if d.what == ESTIMATE and d.target is not None}
    if not predicted:
        return None
    usage = view.usage
    ends: dict[str, float] = {}
    for key, t in usage.done_t.items():
        if (unit := view.units.get(key)) is not None:
            ends[unit.target] = max(ends.get(unit.target, 0.0), t - usage.session_t)
    return FleetTimes(
        targets=tuple(
            TargetTimeRow(
                target=target.name, predicted_s=predicted[target.name].get("makespan_s"),
                actual_s=ends.get(target.name), predicted_gpu_hours=predicted[target.name].get("gpu_hours"),
                predicted_cost=predicted[target.name].get("cost"),
            )
            for target in view.config.targets
            if target.name in predicted
        ),
        nodes=tuple(
            NodeTimeRow(
                node=name, present_s=node.present_s, busy_s=node.busy_s, starting_s=node.starting_s,
                idle_fraction=node.idle_fraction,
            )
            for name, node in usage.nodes.items()
        ),
    )  # fmt: skip


def fleet_section(times: FleetTimes | None) -> list[str]:
    """Blocks of the section; none where nothing was predicted."""
    if times is None:
        return []
    targets = tuple(
        (row.target, _seconds(row.predicted_s), _seconds(row.actual_s), _ratio(row), _number(row.predicted_gpu_hours),
         _number(row.predicted_cost))
        for row in times.targets
    )  # fmt: skip
    nodes = tuple(
        (row.node, _seconds(row.present_s), _seconds(row.busy_s), _seconds(row.starting_s),
         "-" if row.idle_fraction is None else f"{row.idle_fraction:.1%}")
        for row in times.nodes
    )  # fmt: skip
    heads = ("Target", "Predicted (s)", "Actual (s)", "Actual / predicted", "GPU-hours", "Cost")
    return [
        TITLE,
        LEAD,
        markdown_table(Table(heads, targets, num_left=1)),
        markdown_table(Table(("Node", "There (s)", "Busy (s)", "Starting (s)", "Idle"), nodes, num_left=1)),
    ]


def _ratio(row: TargetTimeRow) -> str:
    return f"{row.actual_s / row.predicted_s:.2f}" if row.actual_s is not None and row.predicted_s else "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
