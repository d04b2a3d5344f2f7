"""What the dispatcher hears and what it says: plain values, so that every history can be replayed in a test."""

from dataclasses import dataclass

from raybench.records import AnyUnit, Failure, LoadUnit


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node is there and has no engine."""

    node: str
    """Name; never used before in this session."""
    slot: int
    """Slot of the plan of machines that it fills."""
    hosts: frozenset[str]
    """Hosts that its client and its server occupy; nodes with a host in common never measure at once."""


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node's actor or machine is gone, with whatever ran there."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeLeaving:
    """A node will be taken away soon (a drain, a notice for a spot machine): what runs may end, nothing new starts."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeSuspect:
    """A node does not answer, though Ray takes it for alive: it keeps what it has and gets nothing new."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeWell:
    """A suspect node has answered."""

    node: str


@dataclass(frozen=True, slots=True)
class SlotLost:
    """No node can be had for a slot, at the start or in place of a lost one."""

    slot: int
    reason: str


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The engine that was asked for answers."""

    node: str


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """The engine that was asked for did not become ready."""

    node: str
    reason: str
    retry: bool
    """False: another try would end the same way (a refused flag, a missing model)."""


@dataclass(frozen=True, slots=True)
class EngineStopped:
    """The engine is gone and everything that it started."""

    node: str


@dataclass(frozen=True, slots=True)
class SampleDone:
    """A sample of a running block has ended."""

    node: str
    key: str


@dataclass(frozen=True, slots=True)
class UnitDone:
    """A unit came back whole."""

    node: str
    key: str
    attempt: int
    stop: str | None = None
    """A check's reason why no eval of its target may start any more; None for everything else."""


@dataclass(frozen=True, slots=True)
class UnitFailed:
    """An attempt did not come back whole."""

    node: str
    key: str
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Drain:
    """Nothing new is to be started (Ctrl-C, SIGTERM); what runs may end."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnitsDropped:
    """A rule of the plan decided that these units are not needed; those that run may end."""

    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class UnitsAdded:
    """A search asks for more units. Told before the end of the unit that they follow from, so that nothing is stopped
    in between."""

    units: tuple[LoadUnit, ...]


NodeEvent = NodeJoined | NodeLost | NodeLeaving | NodeSuspect | NodeWell | SlotLost
"""What happens to nodes."""

Event = (
    NodeEvent
    | EngineReady
    | EngineFailed
    | EngineStopped
    | SampleDone
    | UnitDone
    | UnitFailed
    | UnitsDropped
    | UnitsAdded
    | Drain
)


@dataclass(frozen=True, slots=True)
class StartEngine:
    """Start the engine of a target; the answer is EngineReady or EngineFailed."""

    node: str
    target: str
    launch: int


@dataclass(frozen=True, slots=True)
class StopEngine:
    """Stop the node's engine; the answer is EngineStopped."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunUnit:
    """Run a unit; the answer is UnitDone or UnitFailed, with SampleDone between.

    Blocks of samples run beside each other. A timed unit that is given to a node while another runs there is to wait
    for its turn at the node, so that the node need not wait for us.
    """

    node: str
    unit: AnyUnit
    """An eval unit holds only the samples that are still missing."""
    attempt: int


@dataclass(frozen=True, slots=True)
class WithdrawUnit:
    """Take back a unit that waits for its turn at the node; the answer is UnitFailed with the cause `withdrawn`, or
    what the unit comes to if it has begun."""

    node: str
    key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ReleaseNode:
    """Let a node go that is to be taken away: nothing runs there, and its engine is stopped. No answer."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplaceNode:
    """Make a node for this slot in place of the lost one; the answer is NodeJoined under a new name, or SlotLost."""

    slot: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No attempt of this unit follows in this run."""

    key: str
    attempt: int
    """Last attempt that was made; 0 = none."""
    failure: Failure


Action = StartEngine | StopEngine | RunUnit | WithdrawUnit | ReleaseNode | ReplaceNode | GiveUp
