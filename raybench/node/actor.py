"""The thin Ray wrapper of `NodeSession`: long calls become streams, so that progress and samples flow as they come."""

import os
import queue
import select
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from raybench.engine import make_engine
from raybench.engine.base import Launch, Progress
from raybench.node.lease import Lease
from raybench.node.session import NodeSession, NodeSpec, UnitResult
from raybench.records import EngineFacts, NodeFacts, SampleRecord, Unit
from raybench.records.calibration import Calibration

MAX_BLOCKS = 64
"""Blocks of samples that run beside each other on a node; more wait for their turn."""
WORK, SAMPLES = "work", "samples"
"""Groups of calls: one at a time and in order, so that the next one may wait at the node; beside each other."""


class NodeActor:
    """One actor on one whole machine. `control` calls get through while others run."""

    def __init__(self, spec: NodeSpec) -> None:
        self._words = f"{spec.run_id} {spec.node} {spec.accelerator}"
        # A worker is a child of its machine's raylet.
        raylet = os.getppid()
        threading.Thread(target=_die_with, args=(raylet,), name="raybench-raylet-watch", daemon=True).start()
        self._session = NodeSession(spec, partial(make_engine, watch_pids=(raylet,)))
        self._lease = None if spec.lease_s is None else Lease(spec.lease_s, self._end)

    def __repr__(self) -> str:
        """Run, node and accelerator, as Ray's dashboard and logs show them; Ray asks once, when it is made."""
        return f"NodeActor({self._words})"

    @ray.method(concurrency_group="control")
    def facts(self) -> NodeFacts:
        """Facts of the machine."""
        return self._session.facts()

    @ray.method(concurrency_group="signs")
    def ping(self) -> None:
        """A sign of life; a group of its own, since other calls can take their time."""
        self._renew()

    @ray.method(concurrency_group="work")
    def adopt(self, spec: NodeSpec) -> None:
        """Serve this session of the driver, behind whatever an earlier one has left to do here."""
        self._renew()
        # Its machine is where it was made, whatever this session would have chosen.
        self._session.adopt(replace(spec, ray_node_id=ray.get_runtime_context().get_node_id()))

    @ray.method(concurrency_group="work")
    def start_engine(self, launch: Launch) -> Iterator[str | EngineFacts]:
        """Progress lines, then the facts. Raises what the session raises."""
        self._renew()
        yield from _stream(lambda progress: iter([self._session.start_engine(launch, progress)]))

    @ray.method(concurrency_group="work")
    def run_unit(self, unit: Unit, engines_on_host: int) -> Iterator[str | SampleRecord | Calibration | UnitResult]:
        """Progress lines, samples and calibrations as they come, then one UnitResult. Blocks of samples are
        called in `SAMPLES`."""
        # Its items renew nothing: they come whether or not a driver is left to take them.
        self._renew()
        yield from _stream(lambda progress: self._session.run(unit, engines_on_host, progress))

    @ray.method(concurrency_group="control")
    def withdraw(self, key: str) -> None:
        """Refuse a unit when its turn comes."""
        self._session.withdraw(key)

    @ray.method(concurrency_group="control")
    def end_unit(self, key: str, reason: str) -> None:
        """End a running unit with what it has."""
        self._session.end_unit(key, reason)

    @ray.method(concurrency_group="work")
    def stop_engine(self) -> None:
        """Stop the engine."""
        self._renew()
        self._session.stop_engine()

    @ray.method(concurrency_group="control")
    def engine_address(self) -> tuple[str, int | None]:
        """URL and process id of the running engine."""
        return self._session.engine_address()

    @ray.method(concurrency_group="control")
    def cancel(self) -> None:
        """End the running unit or the start of an engine, and refuse new ones."""
        self._session.cancel()

    @ray.method(concurrency_group="control")
    def close(self) -> None:
        """End everything."""
        self._session.close()

    def _renew(self) -> None:
        if self._lease is not None:
            self._lease.renew()

    def _end(self) -> None:
        """The lease is over."""
        try:
            self._session.close()
        finally:
            os._exit(0)  # whatever that met, the machine is held no longer


def _die_with(raylet: int) -> None:
    """End this process when its raylet is gone; whatever it had started goes with it.

    Ray lets a busy worker live on for more than a minute, and its server with it, while the driver has the unit done
    again elsewhere.
    """
    try:
        descriptor = os.pidfd_open(raylet)
    except OSError:
        return  # a kernel without pidfd: Ray's own clean-up has to do
    select.select([descriptor], [], [])
    os._exit(1)


def make_actor(spec: NodeSpec, options: dict[str, Any]) -> Any:
    """An actor handle; `options` are Ray's resource options. No restarts: a restarted server is a new launch."""
    # Ray's stubs know no concurrency groups.
    decorate: Any = ray.remote
    groups = {WORK: 1, SAMPLES: MAX_BLOCKS, "control": 2, "signs": 1}
    remote = decorate(concurrency_groups=groups, max_restarts=0)(NodeActor)
    return remote.options(**options).remote(spec)


def _stream(work: Callable[[Progress], Iterator[Any]]) -> Iterator[Any]:
    """Run `work` in a thread of its own and yield its progress lines and results in the order in which they come."""
    results: queue.Queue[tuple[str, Any]] = queue.Queue()

    def body() -> None:
        try:
            for item in work(lambda line: results.put(("item", line))):
                results.put(("item", item))
            results.put(("end", None))
        except BaseException as error:  # noqa: BLE001 - carried to the caller and raised there
            results.put(("error", error))

    thread = threading.Thread(target=body, name="raybench-work", daemon=True)
    thread.start()
    while True:
        kind, value = results.get()
        if kind == "item":
            yield value
        elif kind == "error":
            raise value
        else:
            return
