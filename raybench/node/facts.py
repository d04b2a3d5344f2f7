"""What a node is: read once when it joins."""

import os
import platform
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import psutil

from raybench import __version__
from raybench.engine.leftovers import LeftOver, left_overs
from raybench.node.telemetry import GpuUser, gpu_users, gpus, nvidia_driver
from raybench.records import NodeFacts, Stranger

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Id of the machine's current boot: two nodes with one boot id share their cores. Linux only."""
    return BOOT_ID.read_text().strip()


def node_facts(
    node: str, accelerator: str, declared_host: str | None, ray_node_id: str | None, run_id: str
) -> NodeFacts:
    """Facts of the machine that this process runs on; `declared_host` replaces the boot id for simulated engines."""
    return NodeFacts(
        node=node,
        host=declared_host or boot_id(),
        ray_node_id=ray_node_id,
        accelerator=accelerator,
        gpus=() if declared_host else gpus(),
        driver_version=None if declared_host else nvidia_driver(),
        cpu_model=_cpu_model(),
        num_cpus=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        python_version=platform.python_version(),
        ray_version=_version("ray"),
        raybench_version=__version__,
        clock_unix_s=time.time(),
        load_average_1m=os.getloadavg()[0],
        strangers=() if declared_host else strangers(run_id, left_overs(), gpu_users()),
    )


def strangers(run_id: str, marked: Iterable[LeftOver], users: Iterable[GpuUser]) -> tuple[Stranger, ...]:
    """Engines of other runs, and processes on the GPUs that are none of this run's, by process id."""
    engines = {process.pid: process for process in marked}
    by_pid: dict[int, list[GpuUser]] = {pid: [] for pid, process in engines.items() if process.run != run_id}
    for user in users:
        if user.pid not in engines or user.pid in by_pid:
            by_pid.setdefault(user.pid, []).append(user)
    found: list[Stranger] = []
    for pid, held in sorted(by_pid.items()):
        process, sizes = engines.get(pid), [user.memory_bytes for user in held if user.memory_bytes is not None]
        found.append(
            Stranger(
                pid=pid, name=process.name if process else _comm(pid), run=process.run if process else None,
                gpus=tuple(sorted({user.gpu for user in held})),
                gpu_memory_mib=sum(sizes) / 2**20 if sizes else None,
            )
        )  # fmt: skip
    return tuple(found)


def _comm(pid: int) -> str:
    """Name of a process; empty for one that a container cannot see."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return None
