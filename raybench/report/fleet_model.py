"""What the report says of the fleet: predictions, outcomes, and the time of its nodes."""

from raybench.records import Record


class TargetTimeRow(Record):
    """How long a target was to take, and took. Seconds from the start of the last session."""

    target: str
    """Name of the target."""
    predicted_s: float | None
    """Predicted end of its last unit; None where its speed was not known."""
    actual_s: float | None
    """End of its last unit; None where none ended."""
    predicted_gpu_hours: float | None
    """Predicted time of its nodes with an engine up or starting, times their GPUs."""
    predicted_cost: float | None
    """At the configuration's price; None without one."""


class NodeTimeRow(Record):
    """What a node did with its time, in seconds on the driver's clock."""

    node: str
    """Short name."""
    present_s: float
    """From when it joined until it was lost or its session ended."""
    busy_s: float
    """With at least one unit."""
    starting_s: float
    """While an engine was on its way up."""
    idle_fraction: float | None
    """Share of its time with neither; None for a node that was hardly there."""


class FleetTimes(Record):
    """What was predicted against what came."""

    targets: tuple[TargetTimeRow, ...]
    """Targets in plan order."""
    nodes: tuple[NodeTimeRow, ...]
    """Nodes in the order in which they joined, those of earlier sessions too."""
