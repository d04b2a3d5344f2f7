"""Which cluster it is, what it has, and whether its nodes can work together."""

import importlib
import importlib.util
import logging
import os
import platform
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray._private import state as ray_state
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raybench import __version__
from raybench.errors import EXIT_SIGTERM, ClusterError
from raybench.plan.demands import Machine, Slot
from raybench.records import NodeFacts

PROBE_TIMEOUT_S = 120.0
KNOCK_TIMEOUT_S = 5.0
NAMESPACE = "raybench"

Versions = tuple[str, str, str | None]
"""Python, Ray and raybench of a machine; None = raybench is missing there."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connected cluster."""

    words: str
    """Which one, in words: the first line that is printed."""
    private: bool
    """True: started by this process for itself."""


def connect(address: str, num_private_cpus: int) -> Cluster:
    """Join a cluster: `local` = a private one, `auto` = the one that is there, else a private one, or HOST:PORT.

    `num_private_cpus`: CPUs that a private cluster must at least declare. Raises ClusterError. From here on SIGTERM
    raises SystemExit with the exit code that a shell gives it, until somebody puts another handler in place.
    """
    try:
        cluster = _joined(address, num_private_cpus)
    except SystemExit as error:
        # Ray's own handler, which it puts in place before it connects: its 15 reads as an exit code of ours.
        raise SystemExit(EXIT_SIGTERM if error.code == signal.SIGTERM else error.code) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    return cluster


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(EXIT_SIGTERM)


def _joined(address: str, num_private_cpus: int) -> Cluster:
    found = _address_of_auto() if address == "auto" else address
    if found.startswith("ray://"):
        raise ClusterError(
            "ray:// clients are not supported: a lost connection would lose the run. Submit the run to the cluster "
            "instead: ray job submit --address http://HEAD:8265 -- python -m raybench run CONFIG --out /abs/folder"
        )
    if found == "local":
        return _private(num_private_cpus)
    _knock(found)
    try:
        ray.init(address=found, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        if str(error).startswith("Version mismatch"):
            raise ClusterError(_other_versions(found, str(error))) from error
        raise ClusterError(
            f"no Ray cluster answers at {found}: {error}. Check the address, or use --address local."
        ) from error
    return Cluster(f"Ray cluster at {ray.get_runtime_context().gcs_address} (Ray {ray.__version__})", private=False)


def _other_versions(address: str, said: str) -> str:
    """What to tell the user where Ray refuses the driver; `said`: Ray's words, the cluster's versions first."""
    named = re.search(r"Ray: (\S+)\s+Python: (\S+)", said)
    theirs = f"Ray {named[1]}, Python {named[2]}" if named else " ".join(said.split())
    return (
        f"the cluster at {address} runs other versions than this driver: {theirs} there; Ray {ray.__version__}, Python "
        f"{platform.python_version()} here. Install the same here, or submit the run as a job, whose driver runs "
        "there: raybench submit CONFIG --address http://HEAD:8265 --out /absolute/folder. If only the patch release of "
        "Python differs, RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor makes Ray take it."
    )


def will_be_private(address: str) -> bool:
    """True if `connect` to this address starts a cluster of its own on this machine."""
    return address == "local" or (address == "auto" and _address_of_auto() == "local")


def _address_of_auto() -> str:
    """Address of the cluster that is there, or `local`. RAY_ADDRESS is an order; the file that Ray left is a hint."""
    if named := os.environ.get("RAY_ADDRESS"):
        return "local" if named == "auto" else named
    hint = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    try:
        address = hint.read_text().strip()
        _knock(address)
    except (OSError, ClusterError):
        # None was started here, or its machine died without taking the file along.
        return "local"
    return address


def _knock(address: str) -> None:
    """Raise ClusterError unless somebody listens at HOST:PORT. Ray itself tries for a minute, then ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(
            f"{address} is no address of a Ray cluster. Give --address auto, local or HOST:PORT (the port of "
            "`ray start --port`, 6379 by default; not the dashboard's 8265)."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error.strerror or error}). Check the address (the port is that of "
            "`ray start --port`, 6379 by default), or use --address local."
        ) from error


def _private(num_cpus: int) -> Cluster:
    # Only for the cluster that nobody but this process can reach: otherwise the first `ray.init` of a user would write
    # a token file that later `ray start` calls of the same user stumble over.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    cpus = max(os.cpu_count() or 1, num_cpus)
    try:
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, namespace=NAMESPACE, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        raise ClusterError(f"cannot start a private Ray cluster on this machine: {error}") from error
    return Cluster(f"private Ray cluster on this machine (Ray {ray.__version__}, {cpus} CPU slots)", private=True)


def disconnect() -> None:
    """Leave the cluster; a private one ends."""
    ray.shutdown()


def machines() -> tuple[Machine, ...]:
    """Machines that are alive now, in a stable order."""
    found = [node for node in ray.nodes() if node["Alive"]]
    return tuple(_machine(node) for node in sorted(found, key=lambda n: (n["NodeManagerAddress"], n["NodeID"])))


def leaving_machines() -> frozenset[str]:
    """Ids of the machines that Ray drains: by hand, or on a notice that a spot machine is about to go.

    `ray.nodes()` does not show it; this is what the state of Ray's own dashboard is made of.
    """
    # Ray 2.60 has no public call for it.
    accessor: Any = ray_state.state
    try:
        return frozenset(accessor.get_draining_nodes())
    except (AttributeError, RayError, RuntimeError):
        return frozenset()  # another version of Ray: nodes are then lost without notice


def _machine(node: dict[str, Any]) -> Machine:
    resources: dict[str, float] = node["Resources"]
    labels: dict[str, str] = node.get("Labels") or {}
    types = {name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")}
    if label := labels.get("ray.io/accelerator-type"):
        types.add(label)
    return Machine(
        id=node["NodeID"],
        address=node["NodeManagerAddress"],
        num_cpus=resources.get("CPU", 0.0),
        num_gpus=resources.get("GPU", 0.0),
        accelerators=tuple(sorted(types)),
    )


def actor_options(slot: Slot) -> dict[str, Any]:
    """Ray's resource options for the actor of a slot."""
    if slot.machine is None:
        return {"num_cpus": slot.num_cpus, "scheduling_strategy": "SPREAD"}
    strategy = NodeAffinitySchedulingStrategy(slot.machine, soft=False)
    return {"num_cpus": slot.num_cpus, "num_gpus": slot.num_gpus, "scheduling_strategy": strategy}


def check_versions(where: Sequence[Machine]) -> tuple[str, ...]:
    """Compare Python, Ray and raybench of all machines with the driver's. Raises ClusterError naming the different.

    Returns the addresses of machines that were lost meanwhile: Ray lists one that lost its power as alive for a while.
    """

    def probe() -> Versions:
        # Pickled by value on purpose: a node without raybench must be able to say so.
        version = None
        if importlib.util.find_spec("raybench") is not None:
            version = importlib.import_module("raybench").__version__
        return platform.python_version(), ray.__version__, version

    wanted = driver_versions()
    task = ray.remote(num_cpus=0)(probe)
    asked = [
        (m, task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(m.id, soft=False)).remote()) for m in where
    ]
    answers: dict[Machine, Versions | str] = {}
    for machine, reference in asked:
        try:
            answers[machine] = ray.get(reference, timeout=PROBE_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            answers[machine] = str(error).splitlines()[0]
    alive = {machine.id for machine in machines()}
    if message := version_complaint(wanted, [(m.address, found) for m, found in answers.items() if m.id in alive]):
        raise ClusterError(message)
    return tuple(machine.address for machine in answers if machine.id not in alive)


def driver_versions() -> Versions:
    """What this process runs."""
    return platform.python_version(), ray.__version__, __version__


def node_complaint(address: str, facts: NodeFacts) -> str | None:
    """`version_complaint` of a node that joins, in one line."""
    wanted = driver_versions()
    found = (facts.python_version, facts.ray_version or wanted[1], facts.raybench_version)
    if (complaint := version_complaint(wanted, [(address, found)])) is None:
        return None
    head, *lines = (line.strip() for line in complaint.splitlines())
    return f"{head} {'; '.join(lines)}"


def version_complaint(wanted: Versions, answers: Sequence[tuple[str, Versions | str]]) -> str | None:
    """What to tell the user about machines whose versions differ; None if all fit.

    `answers`: (address, what the machine runs, or why it could not say).
    """
    wrong: list[str] = []
    for address, found in answers:
        if isinstance(found, str):
            wrong.append(f"  {address}: does not run a task: {found}")
            continue
        # Ray lets no other patch release of Python in unless RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor asks it to;
        # then nothing of ours minds: pickles do not depend on it.
        same_python = found[0].rpartition(".")[0] == wanted[0].rpartition(".")[0]
        if not same_python or found[1:] != wanted[1:]:
            wrong.append(f"  {address}: Python {found[0]}, Ray {found[1]}, raybench {found[2] or 'missing'}")
    if not wrong:
        return None
    driver = f"  driver: Python {wanted[0]}, Ray {wanted[1]}, raybench {wanted[2]}"
    advice = "Install the driver's versions there (setup_commands in cluster.yaml), then run again."
    return "\n".join(["these machines cannot work with the driver:", *wrong, driver, advice])
