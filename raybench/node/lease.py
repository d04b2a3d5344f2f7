"""How long a node outlives its driver: until nobody has asked it for a sign of life for so long."""

import threading
import time
from collections.abc import Callable


class Lease:
    """Renewed by every sign of a driver; `over` is called once when none has come for `seconds`."""

    def __init__(self, seconds: float, over: Callable[[], None], now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._over, self._now = seconds, over, now
        self._renewed_s = now()
        threading.Thread(target=self._watch, name="raybench-lease", daemon=True).start()

    def renew(self) -> None:
        """A driver is there."""
        self._renewed_s = self._now()

    def _watch(self) -> None:
        while (left_s := self._renewed_s + self._seconds - self._now()) > 0:
            time.sleep(min(left_s, 1.0))
        self._over()
