"""Many nodes and one driver on a real Ray cluster: `python tests/benchmarks/fleet_scale.py [NODES UNITS SPREAD]`.

128 node actors on one raylet run 5,120 units of one second each (40 a node), the real driver's loop, dispatcher and
ledger above them. A node is idle from the end of a unit, before it reports it, to the begin of its next one, by its own
clock; the next unit waits at the node meanwhile. p99 of these gaps must be at most 100 ms. Prints its figures as one
line of JSON; exit code 1 if the limit is broken. The first unit of a target goes alone, and the second of every node is
sent when the first has begun: gaps after a node's first unit are told apart (`start_gap_...`), and counted too.

SPREAD, in percent, makes units up to so much longer or shorter (default 0): units of one length that begin together end
together, and then all 128 nodes want the machine's CPU at once, which in a fleet each have their own. `cpu_ms` is
what a unit costs the driver, its node's process and the rest of Ray; beyond 7.8 ms in all per core that is there, 128
units a second are more than the machine can do. `idle_ms` is what a second of doing nothing costs per node: Ray wakes
every process a hundred times to look for signals.
"""

import asyncio
import io
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
# Each node's process reports figures to Ray's dashboard: nothing where each has a machine, much for 128 on one.
os.environ |= {
    "RAY_enable_metrics_collection": "0", "RAY_event_stats": "0", "RAY_metrics_report_interval_ms": "600000",
    "RAY_task_events_report_interval_ms": "0",
}  # fmt: skip

import psutil  # noqa: E402
import ray  # noqa: E402
from ledger_builder import config, measurement, simulated_targets  # noqa: E402
from rich.console import Console  # noqa: E402

from raybench import __version__  # noqa: E402
from raybench.driver.chronicle import Chronicle  # noqa: E402
from raybench.driver.fleet import Fleet, FleetOrder  # noqa: E402
from raybench.driver.joining import Cloud  # noqa: E402
from raybench.driver.run import _Loop  # noqa: E402
from raybench.driver.screen import Screen  # noqa: E402
from raybench.ledger.bodies import PlanBody, RunBody  # noqa: E402
from raybench.ledger.journal import Journal, read  # noqa: E402
from raybench.ledger.view import fold  # noqa: E402
from raybench.node.session import NodeSpec, UnitResult  # noqa: E402
from raybench.plan.demands import Slot  # noqa: E402
from raybench.plan.dispatch import Dispatcher  # noqa: E402
from raybench.plan.searches import Searches  # noqa: E402
from raybench.plan.watch import Watch  # noqa: E402
from raybench.records import EngineFacts, NodeFacts, OneBatchLoad, PerfUnit, Plan, WarmUp  # noqa: E402

LIMIT_MS = 100.0
UNIT_S = 1.0
IDLE_S = 5.0


def point(place: int, num_points: int) -> PerfUnit:
    """A load point: as many stand in one group as one node is to measure."""
    load = OneBatchLoad(batch_size=1 + place % num_points, input_tokens=8, output_tokens=8)
    return PerfUnit(
        key=f"{place:016x}", target="alpha", sweep="s", repeat=place // num_points, launch=0, order=place % num_points,
        load=load, prompt_seed=place, warm_up=WarmUp(), timeout_s=60,
    )  # fmt: skip


RESULT = UnitResult(measurement(point(0, 1), simulated=True), None, None)
"""Made here: a worker that has a class by value does not find the tests' modules."""


class Sleeper:
    """A node that sleeps for every unit, and remembers how long it had nothing to do."""

    def __init__(self, spec: NodeSpec, spread: float) -> None:
        self._spec = spec
        self._ended_s: float | None = None
        self._rng, self._spread = random.Random(spec.node), spread
        self._gaps_s: list[float] = []

    @ray.method(concurrency_group="control")
    def facts(self) -> NodeFacts:
        return NodeFacts(
            node=self._spec.node, host=self._spec.node, accelerator="CPU", num_cpus=1, memory_bytes=1, kernel="k",
            python_version=platform.python_version(), raybench_version=__version__, clock_unix_s=0,
        )  # fmt: skip

    @ray.method(concurrency_group="control")
    def ping(self) -> None:
        pass

    @ray.method(concurrency_group="work")
    def start_engine(self, launch: Any) -> Iterator[EngineFacts]:
        yield EngineFacts(
            engine="simulated", target=launch.target, launch=launch.launch, start=launch.start, url="http://127.0.0.1:1"
        )

    @ray.method(concurrency_group="work")
    def run_unit(self, unit: Any, engines_on_host: int) -> Iterator[UnitResult]:
        began_s = time.perf_counter()
        if self._ended_s is not None:
            self._gaps_s.append(began_s - self._ended_s)
        time.sleep(UNIT_S * (1 + self._spread * (2 * self._rng.random() - 1)))
        self._ended_s = time.perf_counter()
        yield RESULT

    @ray.method(concurrency_group="work")
    def stop_engine(self) -> None:
        pass

    @ray.method(concurrency_group="control")
    def close(self) -> None:
        pass

    @ray.method(concurrency_group="control")
    def gaps_s(self) -> list[float]:
        return self._gaps_s


def cpu_seconds() -> dict[str, float]:
    """CPU time so far of the driver, of the nodes' processes and of everything else that Ray has started."""
    found = {"driver": 0.0, "nodes": 0.0, "ray": 0.0}
    driver = psutil.Process()
    for process in [driver, *driver.children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            kind = "driver" if process == driver else "nodes" if "ray::Sleeper" in process.name() else "ray"
            if kind == "ray" and any("ray::Sleeper" in word for word in process.cmdline()):
                kind = "nodes"
            found[kind] += times.user + times.system
    return found


def measure(folder: Path, num_nodes: int, num_units: int, spread: float) -> dict[str, Any]:
    """Figures of one run."""
    decorate: Any = ray.remote
    remote = decorate(concurrency_groups={"work": 1, "samples": 1, "control": 1}, max_restarts=0, num_cpus=0)(Sleeper)

    specs = [
        NodeSpec(run_id="r", node=f"n{number}", accelerator="H200", num_gpus=8, declared_host=f"simulated:n{number}",
                 ray_node_id=None)
        for number in range(num_nodes)
    ]  # fmt: skip
    # All processes first: their start is Ray's, and on two cores it takes longer than a node may take to join.
    actors = {spec.node: remote.options(num_gpus=8).remote(spec, spread) for spec in specs}
    ray.get([actor.facts.remote() for actor in actors.values()])

    def make(spec: NodeSpec, options: dict[str, Any]) -> Any:
        return actors[spec.node]

    settings = config(targets=simulated_targets()[:1], evals=[], engine={})
    plan = Plan(units=tuple(point(place, -(-num_units // num_nodes)) for place in range(num_units)))
    journal = Journal.create(folder)
    journal.append("run", RunBody(
        run_id="r", session=0, config=settings, config_digest="d", raybench_version="0", ray_version="0",
        python_version="3", cluster="one raylet", command=(),
    ))  # fmt: skip
    journal.append("plan", PlanBody(digest="d", plan=plan))
    slots = [Slot(None, "H200", 0, 0.0, ("alpha",))] * num_nodes
    dispatcher = Dispatcher(plan.units, {number: slot.targets for number, slot in enumerate(slots)})

    async def body() -> None:
        fleet = Fleet(FleetOrder("r", settings), slots, 0, Cloud(make_actor=make))
        with Screen(Console(file=io.StringIO(), force_terminal=False, width=200), num_units, 0) as screen:
            chronicle = Chronicle(journal, screen, tuple(read(folder)), None)
            rules = (Watch(settings, plan, {}, None), Searches(plan, None))
            await _Loop(dispatcher, rules, fleet, chronicle).run(num_nodes, hold=False)

    before = cpu_seconds()
    time.sleep(IDLE_S)
    idle_ms = {
        name: round(1e3 * (value - before[name]) / num_nodes / IDLE_S, 2) for name, value in cpu_seconds().items()
    }
    began_s = time.perf_counter()
    before = cpu_seconds()
    asyncio.run(body())
    wall_s = time.perf_counter() - began_s
    cpu_ms = {name: round(1e3 * (value - before[name]) / num_units, 2) for name, value in cpu_seconds().items()}
    journal.close()
    gaps = [[1000 * gap for gap in ray.get(actor.gaps_s.remote())] for actor in actors.values()]
    gaps_ms, start_ms = sorted(gap for of in gaps for gap in of), sorted(of[0] for of in gaps if of)
    assert len(fold(read(folder)).done) == num_units, "a unit has no result"
    return {
        "nodes": num_nodes, "units": num_units, "spread": spread, "wall_s": round(wall_s, 1),
        "cpus": len(os.sched_getaffinity(0)), "cpu_ms": cpu_ms, "idle_ms": idle_ms, "gaps": len(gaps_ms),
        "gap_p50_ms": round(gaps_ms[len(gaps_ms) // 2], 1), "start_gap_p50_ms": round(start_ms[len(start_ms) // 2], 1),
        "start_gap_max_ms": round(start_ms[-1], 1),
        "gap_p99_ms": round(gaps_ms[int(len(gaps_ms) * 0.99)], 1), "gap_max_ms": round(gaps_ms[-1], 1),
    }  # fmt: skip


def main(num_nodes: int = 128, num_units: int = 5120, spread_percent: int = 0) -> int:
    ray.init(num_cpus=2, num_gpus=8 * num_nodes, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as root:
            figures = measure(Path(root) / "run", num_nodes, num_units, spread_percent / 100)
    finally:
        ray.shutdown()
    print(json.dumps(figures))
    return 0 if figures["gap_p99_ms"] <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
