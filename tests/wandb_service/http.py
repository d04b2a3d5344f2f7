"""The service's HTTP side: GraphQL, the stream of a run's files, uploads, faults."""

import base64
import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from wandb_service.operations import OPERATIONS
from wandb_service.store import Fault, Json, Store

STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


class WandbService(Store):
    """The store, its faults, and the address under which it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Fault] = []
        self.closing = threading.Event()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Json] | None:
        """Status and content; None = close the connection."""
        asked = json.loads(body) if path.endswith("/graphql") else None
        label = f"{method} {path}"
        if asked is not None:
            found = OPERATION.search(asked["query"])
            label = f"graphql:{found.group(1) if found else 'anonymous'}"
        with self.lock:
            self.requests.append(label)
            self.received.append(body)
            fault = next((each for each in self.faults if each.hits(label)), None)
        if fault is not None:
            if fault.hang:
                self.closing.wait()
            if fault.drop or fault.hang:
                return None
            return fault.status or 500, {"error": "injected"}
        if asked is not None:
            return 200, self._graphql(label.removeprefix("graphql:"), asked.get("variables") or {})
        return self._other(path, label, body)

    def _graphql(self, name: str, variables: Json) -> Json:
        operation = OPERATIONS.get(name)
        with self.lock:
            if operation is None:
                self.unknown.append(name)
                return {"data": {}}
            try:
                return {"data": operation(self, variables)}
            except Exception as error:  # noqa: BLE001  a wrong answer of ours is a finding, not the end of the test
                self.unknown.append(f"{name}: {error!r}")
                # Status 200 with errors: the client does not try again.
                return {"data": None, "errors": [{"message": f"{name}: {error!r}"}]}

    def _other(self, path: str, label: str, body: bytes) -> tuple[int, Json]:
        if found := STREAM.fullmatch(path):
            entity, project, name = found.groups()
            self.stream((entity, project, name), json.loads(body))
            return 200, {"limits": {"heartbeatSeconds": 30}}
        if path.startswith("/uploads/"):
            with self.lock:
                self.uploads[path.removeprefix("/uploads/")] = body
            return 200, {}
        with self.lock:
            self.unknown.append(label)
        return 404, {}


def _key(authorization: str) -> str:
    """The key of a request: W&B's clients log in as the user `api`."""
    kind, _, content = authorization.partition(" ")
    return base64.b64decode(content).decode().removeprefix("api:") if kind == "Basic" else content


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: WandbService

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        plain = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
        with self.service.lock:
            self.service.headers.append(repr((self.path, plain)).encode())
            if not self.path.startswith("/uploads/"):
                self.service.logged_in.add(_key(self.headers.get("Authorization") or ""))
        answer = self.service.answer(self.command, unquote(urlsplit(self.path).path), body)
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed leave their connections; that is what they are for."""


@contextmanager
def serving() -> Iterator[WandbService]:
    """The service on a port of its own, for as long as it is needed."""
    service = WandbService()
    server = _Server(("127.0.0.1", 0), type("Connection", (_Connection,), {"service": service}))
    service.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
