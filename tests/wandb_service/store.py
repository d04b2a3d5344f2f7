"""What the service holds: runs, artifacts, uploads, views, and a log of what it was asked."""

import base64
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

ENTITY = "team"

Json = Any


def node_id(kind: str, *parts: object) -> str:
    """An opaque id, as the service's own: base64 of a readable one."""
    return base64.b64encode(":".join((kind, *map(str, parts))).encode()).decode()


@dataclass
class StoredRun:
    """One run."""

    entity: str
    project: str
    name: str
    fields: dict[str, Json] = field(default_factory=dict)
    """displayName, groupName, jobType, host, program, tags ... as last sent."""
    config: dict[str, Json] = field(default_factory=dict)
    summary: dict[str, Json] = field(default_factory=dict)
    lines: dict[int, Json] = field(default_factory=dict)
    """History by its place in the stream: a chunk that is sent again overwrites itself."""
    complete: bool = False
    exit_code: int | None = None
    num_upserts: int = 0

    @property
    def id(self) -> str:
        return node_id("Run", "v1", self.name, self.project, self.entity)

    @property
    def history(self) -> list[dict[str, Json]]:
        return [self.lines[place] for place in sorted(self.lines)]

    @property
    def state(self) -> str:
        return "running" if not self.complete else "failed" if self.exit_code else "finished"


@dataclass
class Fault:
    """What goes wrong with requests whose label matches."""

    label: str
    """Regular expression over `METHOD path` or `graphql:Operation`."""
    status: int | None = None
    """Answer with this status."""
    hang: bool = False
    """Answer nothing until the service is closed."""
    drop: bool = False
    """Close the connection without an answer."""
    after: int = 0
    """Let so many matching requests through first."""
    times: int = 1_000_000
    """Then so many are hit."""
    num_hits: int = 0
    """Requests that were hit so far."""

    def hits(self, label: str) -> bool:
        if not re.search(self.label, label):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.num_hits >= self.times:
            return False
        self.num_hits += 1
        return True


@dataclass
class Store:
    """Everything, under one lock."""

    base: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)
    runs: dict[tuple[str, str, str], StoredRun] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Json]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    views: dict[str, dict[str, Json]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Labels, in order."""
    unknown: list[str] = field(default_factory=list)
    """Operations and paths that this service does not know, or failed at."""
    received: list[bytes] = field(default_factory=list)
    """Every body, for tests that look for what must not be sent."""
    headers: list[bytes] = field(default_factory=list)
    """Addresses and headers of every request, but for what logs in."""
    logged_in: set[str] = field(default_factory=set)
    """Keys that requests came with; empty for one without."""
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def run(self, variables: Json, key: str = "name") -> StoredRun:
        """The run that a request means, made if it is new."""
        entity = variables.get("entity") or variables.get("entityName") or ENTITY
        project = variables.get("project") or variables.get("projectName") or "uncategorized"
        place = (entity, project, variables[key])
        return self.runs.setdefault(place, StoredRun(*place))

    def find(self, variables: Json) -> StoredRun | None:
        """The run, if anybody made it."""
        place = (variables.get("entity") or ENTITY, variables.get("project"), variables["name"])
        found = self.runs.get(place)
        return found if found is not None and found.num_upserts else None

    def named(self, name: str) -> StoredRun:
        """For tests: the one run of that id."""
        (found,) = [run for run in self.runs.values() if run.name == name]
        return found

    def upload_url(self, key: str) -> str:
        return f"{self.base}/uploads/{key}"

    def stream(self, place: tuple[str, str, str], body: Json) -> None:
        """A chunk of a run's stream of files."""
        with self.lock:
            run = self.runs.setdefault(place, StoredRun(*place))
            for name, chunk in (body.get("files") or {}).items():
                lines = (
                    [json.loads(line) for line in chunk.get("content", [])]
                    if name.endswith((".jsonl", ".json"))
                    else []
                )
                if name == "wandb-history.jsonl":
                    run.lines |= dict(enumerate(lines, chunk.get("offset", 0)))
                elif name == "wandb-summary.json" and lines:
                    run.summary = lines[-1]
            if body.get("complete"):
                run.complete, run.exit_code = True, body.get("exitcode")
