"""Looks at a server's own metrics beside a load, from a thread: never at /health, which makes some servers generate."""

import http.client
import threading
import time
import urllib.request
from urllib.parse import urlsplit

from raybench.engine.metrics import read_metrics
from raybench.records.serving import ServerSample

INTERVAL_S = 1.0
TIMEOUT_S = 2.0
MAX_BYTES = 4 * 2**20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class MetricsSampler:
    """Samples between `start` and `stop`."""

    def __init__(self, url: str, api_key: str | None, interval_s: float = INTERVAL_S) -> None:
        self._url = f"{url}/metrics"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._interval_s = interval_s
        self._pages: list[tuple[float, str]] = []
        self._num_failed = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S + self._interval_s)

    def samples(self, started_unix_s: float, ended_unix_s: float, scale: float) -> list[ServerSample]:
        """Looks during a run, with times since its start."""
        inside = [(t, page) for t, page in self._pages if started_unix_s <= t <= ended_unix_s]
        return [read_metrics(page, (t - started_unix_s) * scale) for t, page in inside]

    @property
    def num_failed(self) -> int:
        """Looks that brought nothing. A server without metrics fails every one of them."""
        return self._num_failed

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            before = time.time()
            page = self._look()
            if page is None:
                self._num_failed += 1
                if self._num_failed >= 5 and not self._pages:
                    return  # it shows none
            else:
                self._pages.append(((before + time.time()) / 2, page))

    def _look(self) -> str | None:
        proxies = {} if urlsplit(self._url).hostname in _LOOPBACK else None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
        try:
            with opener.open(urllib.request.Request(self._url, headers=self._headers), timeout=TIMEOUT_S) as response:
                page = response.read(MAX_BYTES)
                # A read with a limit says nothing of what is missing, and a number cut in two is another number.
                is_whole = not response.length or len(page) == MAX_BYTES
                return page.decode(errors="replace") if response.status == 200 and is_whole else None
        except (OSError, http.client.HTTPException, ValueError):
            return None  # http.client's own errors are no OSError: one look must not end the thread
