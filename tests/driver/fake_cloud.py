"""Actors without Ray: methods that answer, raise or stay silent as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from raybench.driver.cluster import driver_versions
from raybench.driver.joining import Cloud
from raybench.node.session import NodeSpec
from raybench.plan.demands import Machine
from raybench.records import EngineFacts, NodeFacts

MACHINE = Machine("ray-node", "127.0.0.1", 2, 0, ())


def node_facts(spec: NodeSpec) -> NodeFacts:
    python, ray, raybench = driver_versions()
    return NodeFacts(
        node=spec.node, host=spec.declared_host or "boot-id", accelerator=spec.accelerator, num_cpus=1, memory_bytes=1,
        ray_node_id=spec.ray_node_id,
        kernel="k", python_version=python, ray_version=ray, raybench_version=raybench or "", clock_unix_s=0,
    )  # fmt: skip


class Method:
    """`method.remote(...)` gives an awaitable, `method.options(...).remote(...)` a stream of awaitables."""

    def __init__(self, items: Callable[..., AsyncIterator[Any]]) -> None:
        self._items = items

    def options(self, **_: object) -> "Stream":
        return Stream(self._items)

    def remote(self, *args: object) -> Any:
        async def first() -> Any:
            async for item in self._items(*args):
                return item
            return None

        return asyncio.ensure_future(first())


class Stream:
    def __init__(self, items: Callable[..., AsyncIterator[Any]]) -> None:
        self._items = items

    async def remote(self, *args: object) -> AsyncIterator[Any]:
        async for item in self._items(*args):

            async def value(item: Any = item) -> Any:
                return item

            yield value()


class FakeActor:
    """An actor that starts engines and runs units as told; override a method to play a fault."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.calls: list[str] = []
        self.killed = False

    def __getattr__(self, name: str) -> Method:
        if name.startswith("_"):
            raise AttributeError(name)

        async def items(*args: object) -> AsyncIterator[Any]:
            self.calls.append(name)
            async for item in getattr(self, f"_{name}")(*args):
                yield item

        return Method(items)

    async def _facts(self) -> AsyncIterator[Any]:
        yield node_facts(self.spec)

    async def _ping(self) -> AsyncIterator[Any]:
        yield None

    async def _start_engine(self, launch: Any) -> AsyncIterator[Any]:
        yield "starting"
        yield EngineFacts(
            engine="simulated", target=launch.target, launch=launch.launch, start=launch.start, url="http://127.0.0.1:1"
        )

    async def _run_unit(self, unit: Any, engines_on_host: int) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield

    async def _stop_engine(self) -> AsyncIterator[Any]:
        yield None

    async def _engine_address(self) -> AsyncIterator[Any]:
        yield "http://127.0.0.1:1", 1

    async def _adopt(self, spec: NodeSpec) -> AsyncIterator[Any]:
        self.spec = replace(spec, ray_node_id=self.spec.ray_node_id)  # it stays where it is
        yield None

    async def _withdraw(self, key: str) -> AsyncIterator[Any]:
        yield None

    async def _end_unit(self, key: str, reason: str) -> AsyncIterator[Any]:
        yield None

    async def _cancel(self) -> AsyncIterator[Any]:
        yield None

    async def _close(self) -> AsyncIterator[Any]:
        yield None


class FakeCloud:
    """Makes actors of the given kinds, one after the other; the last kind stays."""

    def __init__(self, *kinds: type[FakeActor], machines: tuple[Machine, ...] = (MACHINE,)) -> None:
        self.actors: list[FakeActor] = []
        self._kinds = kinds
        self.machines = machines
        self.leaving: frozenset[str] = frozenset()
        self.warm: dict[str, FakeActor] = {}
        """What earlier sessions have left, by name."""
        self.options: list[dict[str, Any]] = []
        """Ray's options of every actor that was made."""

        self.requests: list[list[dict[str, float]]] = []
        """What the autoscaler was asked for."""

    def cloud(self) -> Cloud:
        return Cloud(
            self._make, self._kill, lambda: self.machines, lambda: self.leaving, lambda _: self.warm,
            self.requests.append,
        )  # fmt: skip

    def _make(self, spec: NodeSpec, options: dict[str, Any]) -> FakeActor:
        self.options.append(options)
        kind = self._kinds[min(len(self.actors), len(self._kinds) - 1)]
        self.actors.append(kind(spec))
        return self.actors[-1]

    def _kill(self, actor: FakeActor) -> None:
        actor.killed = True
