"""What a node is: read once when it joins."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path

import psutil

from raybench import __version__
from raybench.node.telemetry import gpus, nvidia_driver
from raybench.records import NodeFacts

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Id of the machine's current boot: two nodes with one boot id share their cores. Linux only."""
    return BOOT_ID.read_text().strip()


def node_facts(node: str, accelerator: str, declared_host: str | None, ray_node_id: str | None) -> NodeFacts:
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
    )


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
