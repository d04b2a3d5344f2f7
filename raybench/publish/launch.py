"""Starts the publisher of a run as a process of its own, and waits for it no longer than it is told to.

Called by whoever runs a benchmark; neither the publisher's failure nor its slowness reaches the benchmark.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raybench import process
from raybench.config.publish import PublishConfig
from raybench.errors import PublishError
from raybench.publish.settings import Flags, active, settle
from raybench.publish.state import LOG, read_state
from raybench.publish.supervise import Order, child_environment, entry, retry, words

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Publisher:
    """A publisher that is at work."""

    folder: Path
    child: process.Child
    order: Order


def start(folder: Path, *, follow: bool) -> Publisher | str:
    """Start the publisher of a run folder; a line for the user where it cannot be."""
    order = Order((folder,), Flags(), follow=follow)
    argv = [sys.executable, "-m", "raybench", "publish", str(folder), *(["--follow"] if follow else [])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("ab") as log:
            # In a session of its own: what interrupts the benchmark, a Ctrl-C say, must not end its publication.
            child = process.start(argv, env=child_environment(os.environ), log=log, new_session=True)
    except OSError as error:
        return f"publisher: did not start ({error.strerror}); retry with: {retry(order)}"
    return Publisher(folder, child, order)


def finish(publisher: Publisher, settings: PublishConfig) -> Sequence[str]:
    """Wait at most `publish.wait_s`; then one line a sink says how far it came. Never raises."""
    deadline = time.monotonic() + settings.wait_s
    while publisher.child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    order = publisher.order
    if publisher.child.poll() is None:
        return [
            f"publisher: still at work after {settings.wait_s:g} s; it goes on by itself, publish.json in the run "
            f"folder says how far it is; retry with: {retry(order)}"
        ]
    states = read_state(publisher.folder).sinks
    try:
        wanted = active(settle(settings, Flags(), os.environ))
    except PublishError as error:
        # What the publisher ended with as well; here it must not become the benchmark's exit code.
        return [f"publisher: {error.message} Retry with: {retry(order)}"]
    lines = [words(order, name, states[entry(order, name)]) for name in wanted if entry(order, name) in states]
    return lines or [f"publisher: ended with {publisher.child.returncode}; see {LOG}; retry with: {retry(order)}"]


def wanted(settings: PublishConfig) -> bool:
    """Whether the configuration and the environment ask for any publication."""
    try:
        return bool(active(settle(settings, Flags(), os.environ)))
    except Exception:  # noqa: BLE001  what is wrong is the publisher's to say, in its own line
        return True
