"""Many nodes and one driver on a real Ray cluster: `python tests/benchmarks/fleet_scale.py [NODES UNITS]`.

128 node actors on one raylet run 5,000 units of one second each, the real driver's loop, dispatcher and ledger above
them. A node is idle from the end of a unit to the begin of its next one, by its own clock; the next unit waits at the
node meanwhile. p99 of these gaps must be at most 100 ms. Prints its figures as one line of JSON; exit code 1 if the
limit is broken.
"""

import asyncio
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

import ray  # noqa: E402
from ledger_builder import config, measurement, simulated_targets  # noqa: E402
from rich.console import Console  # noqa: E402

from raybench.driver.chronicle import Chronicle  # noqa: E402
from raybench.driver.fleet import Cloud, Fleet, FleetOrder  # noqa: E402
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

    def __init__(self, spec: NodeSpec) -> None:
        self._spec = spec
        self._ended_s: float | None = None
        self._gaps_s: list[float] = []

    @ray.method(concurrency_group="control")
    def facts(self) -> NodeFacts:
        return NodeFacts(
            node=self._spec.node, host=self._spec.node, accelerator="CPU", num_cpus=1, memory_bytes=1, kernel="k",
            python_version="3", raybench_version="0", clock_unix_s=0,
        )  # fmt: skip

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
        time.sleep(UNIT_S)
        yield RESULT
        self._ended_s = time.perf_counter()

    @ray.method(concurrency_group="work")
    def stop_engine(self) -> None:
        pass

    @ray.method(concurrency_group="control")
    def close(self) -> None:
        pass

    @ray.method(concurrency_group="control")
    def gaps_s(self) -> list[float]:
        return self._gaps_s


def measure(folder: Path, num_nodes: int, num_units: int) -> dict[str, float]:
    """Figures of one run."""
    decorate: Any = ray.remote
    remote = decorate(concurrency_groups={"work": 1, "samples": 1, "control": 1}, max_restarts=0, num_cpus=0)(Sleeper)

    specs = [
        NodeSpec(run_id="r", node=f"n{number}", accelerator="H200", num_gpus=8, declared_host=f"simulated:n{number}",
                 ray_node_id=None)
        for number in range(num_nodes)
    ]  # fmt: skip
    # All processes first: their start is Ray's, and on two cores it takes longer than a node may take to join.
    actors = {spec.node: remote.options(num_gpus=8).remote(spec) for spec in specs}
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

    began_s = time.perf_counter()
    cpu_s = time.process_time()
    asyncio.run(body())
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    journal.close()
    gaps_ms = sorted(1000 * gap for actor in actors.values() for gap in ray.get(actor.gaps_s.remote()))
    assert len(fold(read(folder)).done) == num_units, "a unit has no result"
    return {
        "nodes": num_nodes, "units": num_units, "wall_s": round(wall_s, 1), "driver_cpu_s": round(cpu_s, 1),
        "gaps": len(gaps_ms), "gap_p50_ms": round(gaps_ms[len(gaps_ms) // 2], 1),
        "gap_p99_ms": round(gaps_ms[int(len(gaps_ms) * 0.99)], 1), "gap_max_ms": round(gaps_ms[-1], 1),
    }  # fmt: skip


def main(num_nodes: int = 128, num_units: int = 5000) -> int:
    ray.init(num_cpus=2, num_gpus=8 * num_nodes, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as root:
            figures = measure(Path(root) / "run", num_nodes, num_units)
    finally:
        ray.shutdown()
    print(json.dumps(figures))
    return 0 if figures["gap_p99_ms"] <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
