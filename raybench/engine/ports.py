"""Ports for servers, out of the way of Ray's workers (10002-19999) and of the kernel's ephemeral range (32768 up)."""

import contextlib
import random
import socket

from raybench.errors import EngineStartError

FIRST_PORT = 20000
LAST_PORT = 32767
NUM_TRIES = 200


class HeldPorts:
    """Free ports that stay bound until they are let go, right before the server binds them."""

    def __init__(self, num_ports: int) -> None:
        """Raises EngineStartError if no free ports can be found."""
        self._sockets: list[socket.socket] = []
        # Not the run's seed: two engines that start at the same moment must not try the same ports.
        draw = random.SystemRandom()
        for _ in range(NUM_TRIES):
            if len(self._sockets) == num_ports:
                return
            self._try(draw.randint(FIRST_PORT, LAST_PORT))
        if len(self._sockets) < num_ports:
            self.let_go()
            raise EngineStartError(f"No free port between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1.")

    def _try(self, port: int) -> None:
        # All addresses: SGLang's rendezvous binds there. No SO_REUSEADDR, so that a listener anywhere refuses us.
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            probe.bind(("", port))
        except OSError:
            probe.close()
            return
        self._sockets.append(probe)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The held ports."""
        return tuple(probe.getsockname()[1] for probe in self._sockets)

    def let_go(self) -> None:
        """Close them all. A socket that never listened leaves no TIME_WAIT behind."""
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().close()
