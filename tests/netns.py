"""Machines made of network namespaces on a bridge that leads nowhere. Needs root and iproute2."""

import os
import shutil
import subprocess

BRIDGE = "br0"


def missing(*tools: tuple[str, str]) -> str | None:
    """Why this machine cannot play hosts; None if it can. `tools`: (command, its package) that are needed besides."""
    if os.geteuid() != 0:
        return "namespaces with addresses of their own need root"
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    for word, package in (("ip", "iproute2"), *tools):
        if shutil.which(word) is None:
            return f"{word} is not here (package {package})"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    return None if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


def lay_bridge(within: str | None = None) -> None:
    """The bridge of all machines, in another namespace or in this one."""
    ip(*_of(within), "link", "add", BRIDGE, "type", "bridge")
    ip(*_of(within), "link", "set", BRIDGE, "up")


def plug_in(space: str, number: int, address: str, gateway: str, within: str | None = None) -> None:
    """Make a namespace with an address (of 24 bits of network) and one cable, `v{number}`, to the bridge."""
    ip("netns", "add", space)
    at = ("netns", within) if within else ()
    ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", f"v{number}", *at)
    ip(*_of(within), "link", "set", f"v{number}", "master", BRIDGE, "up")
    ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
    ip("-n", space, "link", "set", "lo", "up")
    ip("-n", space, "link", "set", "eth0", "up")
    # Without a default route Ray takes 127.0.0.1 for its own address, and no other machine finds it.
    ip("-n", space, "route", "add", "default", "via", gateway)


def _of(within: str | None) -> tuple[str, ...]:
    return ("-n", within) if within else ()


def ip(*words: str, check: bool = True) -> None:
    """One call of `ip`. Raises RuntimeError with its words."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")
