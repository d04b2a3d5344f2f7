"""A Ray cluster whose machines are network namespaces on a bridge that leads nowhere, so that one can be cut off.

Needs root and iproute2, and is to be made in a network and process namespace of its own (`alone`): nothing of it is
left then when that ends, whatever becomes of the machines.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from typing import NoReturn

from cli_runs import ROOT, descendants, kill, wait_for
from netns import BRIDGE, ip, lay_bridge, plug_in

SUBNET = "198.18.78"
"""Of the range that is set aside for benchmarks (RFC 2544)."""
HEAD = f"{SUBNET}.254"
PORT = 6379
STORE_BYTES = 80 << 20
ALONE = "RAYBENCH_TESTS_ALONE"
STARTED = "Ray runtime started."
RAY_FILES = Path("/tmp/rb-apart")
"""Short: paths of Unix sockets may have 107 characters."""
OWN_NAMESPACES = ("unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")


def is_alone() -> bool:
    """True in the process that `alone` has made."""
    return ALONE in os.environ


def alone(words: Sequence[str]) -> NoReturn:
    """Become this Python with other words in namespaces of its own, which end with it."""
    env = os.environ | {ALONE: "1", "RAY_TMPDIR": str(RAY_FILES), "PYTHONPATH": str(ROOT)}
    os.execvpe(OWN_NAMESPACES[0], [*OWN_NAMESPACES, sys.executable, *words], env)


class MachinesApart:
    """The cluster: a head on this namespace's own address, and a namespace for every other machine."""

    def __init__(self, log: Path, kinds: Sequence[str], num_head_cpus: int = 2) -> None:
        self.address = f"{HEAD}:{PORT}"
        self._log = log.open("ab")
        self._num = 0
        self._spaces: dict[int, int] = {}
        """Number of a machine by the process that started its raylet."""
        # Names of `ip netns` are kept in a folder that the other namespaces share; Ray's files are to go with the rest.
        for folder in (Path("/run/netns"), RAY_FILES):
            folder.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
        ip("link", "set", "lo", "up")
        lay_bridge()
        ip("addr", "add", f"{HEAD}/24", "dev", BRIDGE)
        # As for the other machines: without a default route Ray takes 127.0.0.1.
        ip("route", "add", "default", "via", f"{SUBNET}.253")
        words = ["--head", f"--port={PORT}", f"--num-cpus={num_head_cpus}", "--include-dashboard=false"]
        self._head = self._start([], HEAD, words)
        for kind in kinds:
            self.add(kind)

    def add(self, kind: str) -> None:
        """A machine with eight GPUs that it does not have, or with CPUs alone (`CPU`)."""
        self._num += 1
        space, address = f"m{self._num}", f"{SUBNET}.{self._num}"
        plug_in(space, self._num, address, HEAD)
        declared = ["--num-cpus=1"]
        if kind != "CPU":
            declared += ["--num-gpus=8", f'--resources={{"accelerator_type:{kind}": 1}}']
            declared += [f"--labels=ray.io/accelerator-type={kind}"]
        pid = self._start(["ip", "netns", "exec", space], address, [f"--address={self.address}", *declared])
        self._spaces[pid] = self._num

    def cut(self, raylet: int, seconds: float) -> None:
        """No packet comes to the raylet's machine or from it for a while."""
        number = next(number for pid, number in self._spaces.items() if raylet in descendants(pid))
        ip("link", "set", f"v{number}", "down")
        healing = Timer(seconds, ip, ["link", "set", f"v{number}", "up"])
        healing.daemon = True
        healing.start()

    def close(self) -> None:
        for pid in (*self._spaces, self._head):
            for below in (*descendants(pid), pid):
                kill(below)
        self._log.close()

    def _start(self, within: list[str], address: str, words: list[str]) -> int:
        """`ray start` that stays; returns its process once its raylet is up. One after the other: they share a folder,
        and of two that begin at once one may take the other's sockets."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") or name == "RAY_TMPDIR"}
        env |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        where = [f"--node-ip-address={address}", f"--object-store-memory={STORE_BYTES}"]
        child = subprocess.Popen(
            [*within, *start, *where, *words], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=self._log, start_new_session=True,
        )  # fmt: skip
        said = Path(self._log.name)
        before = said.read_text().count(STARTED)
        wait_for(lambda: child.poll() is not None or said.read_text().count(STARTED) > before, said.read_text)
        assert child.poll() is None, said.read_text()
        return child.pid
