"""What a configuration asks of a cluster, and which machine serves which target. Pure.

Targets on disjoint machines run at once. Where the machines do not suffice for that, targets with the same accelerator
share them and take turns.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from raybench.config.schema import RunConfig, engine_of
from raybench.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Machine:
    """One alive machine of the cluster."""

    id: str
    """Ray's node id."""
    address: str
    """Address for messages."""
    num_cpus: float
    num_gpus: float
    accelerators: tuple[str, ...]
    """Accelerator types, such as H200."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Machines of one kind that one target asks for."""

    target: str
    accelerator: str
    nodes: int
    gpus_per_node: int
    """0 = a slot on any machine (CPU, simulated and external engines)."""
    simulated: bool
    """A simulated engine needs neither GPU nor CPU of its own."""
    stands_for_gpus: int = 0
    """GPUs of the machine that a simulated node stands for: it goes to one like it where there is one."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One actor to make: where, and for which targets."""

    machine: str | None
    """Ray's node id; None = wherever there is room, or with GPUs the first machine that comes."""
    accelerator: str
    num_gpus: int
    num_cpus: float
    targets: tuple[str, ...]


Kinds = dict[tuple[str, int], list[Demand]]
"""Demands by accelerator and GPUs."""


def demands(config: RunConfig) -> tuple[Demand, ...]:
    """Demands of every target, in the order of the configuration."""
    result: list[Demand] = []
    for target in config.targets:
        kind = engine_of(config, target).kind
        gpus = target.gpus_per_node if kind == "sglang" else 0
        simulated = kind == "simulated"
        stands_for = target.gpus_per_node if simulated else 0
        result.append(Demand(target.name, target.accelerator, target.nodes, gpus, simulated, stands_for))
    return tuple(result)


def num_cpu_slots(wanted: Sequence[Demand]) -> int:
    """CPUs that the GPU-less actors of real engines need."""
    return sum(d.nodes for d in wanted if d.gpus_per_node == 0 and not d.simulated)


def assign(wanted: Sequence[Demand], machines: Sequence[Machine]) -> tuple[Slot, ...]:
    """One slot for every actor to make. Raises ClusterError with a table of what is missing."""
    slots, missing = _match(wanted, machines)
    if missing:
        raise ClusterError(_message(missing, machines))
    for demand in wanted:
        if demand.simulated:
            slots.extend(_stand_ins(demand, machines))
        elif not demand.gpus_per_node:
            slots.extend([Slot(None, demand.accelerator, 0, 1.0, (demand.target,))] * demand.nodes)
    return tuple(slots)


def _stand_ins(demand: Demand, machines: Sequence[Machine]) -> list[Slot]:
    """Slots of a simulated target, in turn on the machines that its nodes stand for, without anything of theirs."""
    alike = [m.id for m in machines if _fits(m, demand.accelerator, demand.stands_for_gpus)]
    where = alike or [None]
    return [Slot(where[i % len(where)], demand.accelerator, 0, 0.0, (demand.target,)) for i in range(demand.nodes)]


def assign_some(wanted: Sequence[Demand], machines: Sequence[Machine]) -> tuple[Slot, ...]:
    """As `assign`, but what is missing may come later: its slots have no machine yet.

    Raises ClusterError where a target would have no machine at all, or where the CPUs do not suffice.
    """
    if not shortage(wanted, machines):
        return assign(wanted, machines)
    there: list[Demand] = []
    taken: dict[str, int] = {}
    for number, demand in enumerate(wanted):
        kind, gpus = demand.accelerator, demand.gpus_per_node
        if not gpus:
            there.append(demand)
            continue
        fitting = sum(1 for machine in machines if _fits(machine, kind, gpus))
        after = sum(1 for other in wanted[number + 1 :] if other.gpus_per_node and other.accelerator == kind)
        # Every target that follows is left one.
        nodes = max(min(demand.nodes, fitting - taken.get(kind, 0) - after), 1)
        taken[kind] = taken.get(kind, 0) + nodes
        there.append(replace(demand, nodes=nodes))
    later = [
        Slot(None, demand.accelerator, demand.gpus_per_node, 1.0, (demand.target,))
        for demand, now in zip(wanted, there, strict=True)
        for _ in range(demand.nodes - now.nodes)
    ]
    return (*assign(there, machines), *later)


def free_machine(slot: Slot, machines: Sequence[Machine], taken: Collection[str]) -> str | None:
    """Machine for a slot with GPUs: its own where that is there, else the first that fits and is not taken."""
    fitting = [m.id for m in machines if m.id not in taken and _fits(m, slot.accelerator, slot.num_gpus)]
    return slot.machine if slot.machine in fitting else next(iter(fitting), None)


def _fits(machine: Machine, accelerator: str, gpus: int) -> bool:
    return machine.num_gpus >= gpus and accelerator in machine.accelerators


def shortage(wanted: Sequence[Demand], machines: Sequence[Machine]) -> tuple[str, ...]:
    """What these machines lack, a line each; empty when `assign` would do."""
    return tuple(line.strip() for line in _match(wanted, machines)[1])


def bundles(wanted: Sequence[Demand]) -> list[dict[str, float]]:
    """What an autoscaler must bring so that the run can start, a bundle of resources for each machine.

    Targets that want the same kind of machine can take turns on it, so that only the most of them count.
    """
    most: dict[tuple[str, int], int] = {}
    for demand in wanted:
        if demand.gpus_per_node:
            kind = (demand.accelerator, demand.gpus_per_node)
            most[kind] = max(most.get(kind, 0), demand.nodes)
    return [_bundle(*kind) for kind, nodes in most.items() for _ in range(nodes)] + [
        {"CPU": 1.0} for _ in range(num_cpu_slots(wanted))
    ]


def more_bundles(waiting: Sequence[Slot], machines: Sequence[Machine]) -> list[dict[str, float]]:
    """What an autoscaler must be asked for so that every slot that waits gets a machine of its own.

    A wish is for the whole cluster: a machine that is there, though in use or about to be taken away, would meet it.
    """
    kinds = dict.fromkeys((slot.accelerator, slot.num_gpus) for slot in waiting)
    there = {m.id: _bundle(a, m.num_gpus) for a, gpus in kinds for m in machines if _fits(m, a, gpus)}
    return [*there.values(), *(_bundle(slot.accelerator, slot.num_gpus) for slot in waiting)]


def _bundle(accelerator: str, gpus: float) -> dict[str, float]:
    # A thousandth is what Ray itself takes for `accelerator_type=...`.
    return {"GPU": float(gpus), "CPU": 1.0, f"accelerator_type:{accelerator}": 0.001}


def _match(wanted: Sequence[Demand], machines: Sequence[Machine]) -> tuple[list[Slot], list[str]]:
    """Slots on machines with GPUs, and a line for everything that is missing."""
    missing: list[str] = []
    groups: Kinds = {}
    for demand in wanted:
        if demand.gpus_per_node:
            groups.setdefault((demand.accelerator, demand.gpus_per_node), []).append(demand)
    found: dict[tuple[str, int], list[Slot]] = {}
    for accelerator in dict.fromkeys(accelerator for accelerator, _ in groups):
        alike = {kind: group for kind, group in groups.items() if kind[0] == accelerator}
        made, lacking = _placed(alike, machines, spread=True)
        if lacking:  # turns may leave a machine to those that found none
            in_turn = _placed(alike, machines, spread=False)
            made, lacking = (made, lacking) if in_turn[1] else in_turn
        found |= made
        missing += lacking
    slots = [slot for kind in groups for slot in found[kind]]
    free_cpus = sum(m.num_cpus for m in machines)
    if num_cpu_slots(wanted) > free_cpus:
        missing.append(f"  CPU slots: {num_cpu_slots(wanted)} asked, {free_cpus:.0f} CPUs in the cluster")
    return slots, missing


def _placed(
    groups: Kinds, machines: Sequence[Machine], *, spread: bool
) -> tuple[dict[tuple[str, int], list[Slot]], list[str]]:
    """Slots of every kind of demand for one accelerator, and a line for every kind that finds none."""
    taken: set[str] = set()
    found: dict[tuple[str, int], list[Slot]] = {}
    missing: list[str] = []
    small_first = sorted(machines, key=lambda machine: machine.num_gpus)
    # The largest demand chooses first, among the smallest machines that will do: what it leaves fits the others.
    for (accelerator, gpus), group in sorted(groups.items(), key=lambda item: -item[0][1]):
        fitting = [m for m in small_first if m.id not in taken and _fits(m, accelerator, gpus)]
        made = found[accelerator, gpus] = _share(group, fitting, spread=spread)
        if not made:
            missing.append(_row(group, accelerator, gpus, len(fitting)))
        taken.update(slot.machine for slot in made if slot.machine)
    return found, missing


def _share(group: Sequence[Demand], fitting: Sequence[Machine], *, spread: bool) -> list[Slot]:
    """Slots of targets that ask for the same kind of machine; empty when even taking turns does not help. `spread`:
    without turns where there are enough."""
    if spread and sum(d.nodes for d in group) <= len(fitting):
        rest = list(fitting)
        return [
            Slot(rest.pop(0).id, d.accelerator, d.gpus_per_node, 1.0, (d.target,))
            for d in group
            for _ in range(d.nodes)
        ]
    most = max(d.nodes for d in group)
    if most > len(fitting):
        return []
    first = group[0]
    return [
        Slot(fitting[i].id, first.accelerator, first.gpus_per_node, 1.0, tuple(d.target for d in group if i < d.nodes))
        for i in range(most)
    ]


def _row(group: Sequence[Demand], accelerator: str, gpus: int, found: int) -> str:
    names = ", ".join(d.target for d in group)
    asked = max(d.nodes for d in group)
    return f"  {accelerator}: {asked} machine(s) with {gpus} GPU(s) asked (targets {names}), {found} in the cluster"


def _message(missing: Sequence[str], machines: Sequence[Machine]) -> str:
    rows = [
        f"  {m.address}: {m.num_cpus:.0f} CPU, {m.num_gpus:.0f} GPU, {', '.join(m.accelerators) or 'no accelerator'}"
        for m in machines
    ]
    return "\n".join(
        ["the cluster cannot meet the demands of the configuration:", *missing, "machines that are there:", *rows,
         "Add machines (ray up), or wait for them (--wait-for-nodes-s 1800), or lower `nodes` and `gpus_per_node`, or "
            "run one target with --target NAME."]
    )  # fmt: skip
