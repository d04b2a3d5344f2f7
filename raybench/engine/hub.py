"""Models of the hub: looked up, checked against the disk, fetched once per cache, and used from there without the hub.

Whoever takes the lock that lies in the cache itself fetches for all nodes that share it: many at once would meet the
hub's limit of requests. What is whole is noted beside it (commit, files, sizes), so that a pinned revision needs no
network at all any more, and any other one survives a hub that does not answer. So does a cache that somebody else has
filled, if the files that its own index names are there.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from raybench import process
from raybench.config.schema import ModelConfig
from raybench.engine.base import Progress
from raybench.engine.cache import NoLocks, cache_root, locked
from raybench.engine.redaction import redact
from raybench.engine.task import TIMED_OUT, Task, run_task
from raybench.errors import EngineRefused, EngineStartError, StorageError

FETCH_TIMEOUT_S = 6 * 3600.0
LOOK_UP_TIMEOUT_S = 300.0
SPARE_BYTES = 2**30
"""What must stay free on the disk of the cache."""
NAMED = 3
"""How many missing files a message names."""
NOTES = ".raybench"
"""Folder of locks and notes in the hub's cache."""

_SCRIPTS = Path(__file__).parent / "scripts"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_SETTINGS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_ENABLE_HF_TRANSFER")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a revision of a model consists of."""

    commit: str
    files: Mapping[str, int]
    """Bytes by file name."""
    blobs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of the files' contents in the cache, where the hub tells: the same under every commit."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a fetch asks of the machine."""

    python: Path
    """Interpreter with huggingface_hub."""
    scripts: Path = _SCRIPTS
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    locks: tuple[int, ...] = ()
    """Descriptors that are held as long as anything of the fetch runs."""


def fetch(model: ModelConfig, around: Surroundings, progress: Progress) -> tuple[Path, str]:
    """Folder and commit of a model that lies whole in the cache. Blocks, up to hours for a download.

    Raises EngineRefused (no such id, not allowed, no room), EngineStartError (network), StorageError.
    """
    cache = _Cache(_hub_cache(os.environ), model.path)
    if model.revision and _COMMIT.fullmatch(model.revision) and cache.holds(cache.noted(model.revision)):
        progress(f"{model.path} lies in the cache at commit {model.revision[:12]}")
        return cache.folder(model.revision), model.revision
    with cache.locked(progress) as locks:
        around = replace(around, locks=locks)
        try:
            snapshot = _look_up(model, around, progress)
        except EngineRefused:
            raise
        except EngineStartError as error:
            commit = _kept(model, cache, error, progress)
            return cache.folder(commit), commit
        if cache.missing_bytes(snapshot):
            _check_disk(model, cache, snapshot, around)
            _download(model, cache, snapshot, around, progress)
        else:
            progress(f"{model.path} lies in the cache at commit {snapshot.commit[:12]}")
        cache.note(snapshot)
    return cache.folder(snapshot.commit), snapshot.commit


class _Cache:
    """The hub's cache of one model, in the layout that huggingface_hub gives it."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self._plain = name.replace("/", "--")
        self.model = root / f"models--{self._plain}"
        self._blobs = self.model / "blobs"

    def folder(self, commit: str) -> Path:
        return self.model / "snapshots" / commit

    @contextmanager
    def locked(self, progress: Progress) -> Iterator[tuple[int, ...]]:
        """Alone for this model, among all that share the cache; yields the lock's descriptor, if there is one."""
        what = f"the download of {self.name}"
        try:
            lock = locked(self.root / NOTES / f"{self._plain}.lock", what, progress)
            descriptor = lock.__enter__()
        except NoLocks:
            progress(f"the file system of {self.root} knows no locks: nodes may download side by side")
            yield ()
            return
        except StorageError:
            # A cache that others fill, and that we may only read.
            lock = locked(cache_root() / "models" / f"fetch-{self._plain}.lock", what, progress)
            descriptor = lock.__enter__()
        try:
            yield (descriptor,)
        finally:
            lock.__exit__(None, None, None)

    def noted(self, commit: str) -> Snapshot | None:
        """What was whole once; None if nothing is known."""
        try:
            content: JsonValue = json.loads((self.root / NOTES / f"{self._plain}-{commit}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return _snapshot(content)

    def note(self, snapshot: Snapshot) -> None:
        """Remember that it is whole."""
        path = self.root / NOTES / f"{self._plain}-{snapshot.commit}.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_text(json.dumps({"commit": snapshot.commit, "files": dict(snapshot.files)}))
            part.replace(path)
        except OSError:
            pass  # a cache that we may only read: it is looked through again next time

    def holds(self, snapshot: Snapshot | None) -> bool:
        return snapshot is not None and self.missing_bytes(snapshot) == 0

    def lacking(self, commit: str) -> list[str]:
        """Files that a snapshot lacks by its note; by its own index, where somebody else has filled the cache."""
        folder, noted = self.folder(commit), self.noted(commit)
        if noted is not None:
            return [name for name, size in noted.files.items() if _size(folder / name) != size]
        return [name for name in ("config.json", *_shards(folder)) if not (folder / name).is_file()]

    def missing_bytes(self, snapshot: Snapshot) -> int:
        """Bytes of files that are not there in their full size; a file of no bytes counts as one."""
        folder = self.folder(snapshot.commit)
        return sum(max(size, 1) for name, size in snapshot.files.items() if _size(folder / name) != size)

    def present_bytes(self, snapshot: Snapshot, stale: Collection[Path]) -> int:
        """Bytes of its files that need not be fetched any more: whole under whatever commit, or pieces not `stale`."""
        folder, blobs = self.folder(snapshot.commit), self._blobs
        whole = sum(
            size
            for name, size in snapshot.files.items()
            if size in (_size(folder / name), _size(blobs / snapshot.blobs.get(name, "-")))
        )
        pieces = sum(_size(path) or 0 for path in self._pieces() if path not in stale)
        return min(whole + pieces, sum(snapshot.files.values()))

    def stale(self, snapshot: Snapshot) -> set[Path]:
        """Pieces that this fetch does not go on with: huggingface_hub takes up only one with its blob's plain name."""
        return {path for path in self._pieces() if path.stem not in snapshot.blobs.values()}

    def _pieces(self) -> Iterator[Path]:
        return self._blobs.glob("*.incomplete")

    def named(self, revision: str | None) -> str | None:
        """Commit that the revision stood for when the hub last answered."""
        if revision and _COMMIT.fullmatch(revision):
            return revision
        try:
            return (self.model / "refs" / (revision or "main")).read_text().strip()
        except OSError:
            return None


def _look_up(model: ModelConfig, around: Surroundings, progress: Progress) -> Snapshot:
    """What the revision consists of, from the hub."""
    words = ("plan", model.path, *([model.revision] if model.revision else []))
    code, output = _run(words, around, LOOK_UP_TIMEOUT_S, f"looking {model.path} up on the hub", progress)
    for line in output.splitlines():
        if line.startswith("plan ") and code == 0 and (snapshot := _snapshot(json.loads(line[5:]))) is not None:
            return snapshot
    raise _fetch_error(model, code, output)


def _kept(model: ModelConfig, cache: _Cache, error: EngineStartError, progress: Progress) -> str:
    """Commit that the cache holds whole, where the hub does not answer. Raises `error` where there is none."""
    commit = cache.named(model.revision)
    if not commit or not cache.folder(commit).is_dir():
        raise error
    if lacking := cache.lacking(commit):
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        raise EngineStartError(
            f"{error.message}\nThe cache holds commit {commit[:12]} in {cache.folder(commit)}, but there "
            f"{', '.join(lacking[:NAMED])}{more} is missing or cut."
        ) from error
    whose = "" if cache.noted(commit) else ", filled by others: all weights that its own index names are there"
    progress(f"the hub does not answer; the cache holds {model.path} at commit {commit[:12]}{whose}")
    return commit


def _check_disk(model: ModelConfig, cache: _Cache, snapshot: Snapshot, around: Surroundings) -> None:
    cache.root.mkdir(parents=True, exist_ok=True)
    stale = cache.stale(snapshot)
    missing = sum(snapshot.files.values()) - cache.present_bytes(snapshot, stale)
    free = around.free_bytes(cache.root)
    if missing and free < missing + SPARE_BYTES:
        left_gb = sum(_size(path) or 0 for path in stale) / 1e9
        left = (
            f" Pieces of other downloads take {left_gb:,.1f} GB there: {cache.model}/blobs/*.incomplete."
            if stale
            else ""
        )
        raise EngineRefused(
            f"The model {model.path} needs {missing / 1e9:,.1f} GB more in {cache.root}, whose disk has "
            f"{free / 1e9:,.1f} GB free. Make room, or mount a larger disk there (HF_HOME names the cache).{left}"
        )


def _download(model: ModelConfig, cache: _Cache, snapshot: Snapshot, around: Surroundings, progress: Progress) -> None:
    total = sum(snapshot.files.values()) / 2**20
    label = f"fetching {model.path} at commit {snapshot.commit[:12]}, {total:,.0f} MiB in all"
    progress(label)
    stale = cache.stale(snapshot)
    code, output = _run(
        ("fetch", model.path, snapshot.commit), around, FETCH_TIMEOUT_S, label, progress,
        lambda: cache.present_bytes(snapshot, stale) / 2**20,
    )  # fmt: skip
    if code != 0:
        raise _fetch_error(model, code, output)
    if cache.missing_bytes(snapshot):
        raise EngineStartError(
            f"The model {model.path} was fetched, but files of it are missing or cut in "
            f"{cache.folder(snapshot.commit)}. Delete {cache.model} and run again."
        )


def _run(
    words: tuple[str, ...], around: Surroundings, timeout_s: float, label: str, progress: Progress,
    mib: Callable[[], float] | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Exit code and output, secrets taken out."""
    settings = {name: os.environ[name] for name in _HUB_SETTINGS if name in os.environ}
    log = cache_root() / "models" / f"fetch-{words[1].replace('/', '--')}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"The cache folder {log.parent} cannot be made ({error.strerror}).") from error
    argv = (str(around.python), str(around.scripts / "fetch_snapshot.py"), *words)
    task = Task(argv, process.child_environment(settings), log, label, timeout_s, mib, around.locks)
    code, output = run_task(task, progress)
    return code, redact(output, tuple(settings.values()))


def _fetch_error(model: ModelConfig, code: int, output: str) -> EngineStartError:
    what = f"The model {model.path} could not be fetched from the hub"
    if "GatedRepoError" in output or "403 " in output:
        return EngineRefused(f"{what}: access to it is gated. Accept its terms and set HF_TOKEN on the node.")
    if "RepositoryNotFoundError" in output or "401 " in output:
        return EngineRefused(f"{what}: there is no such id for this user (and no such folder on the node).")
    if "RevisionNotFoundError" in output:
        return EngineRefused(f"{what}: it has no revision {model.revision!r}.")
    how = "ran past its limit" if code == TIMED_OUT else f"exit code {code}"
    tail = "\n".join(output.strip().splitlines()[-12:])
    return EngineStartError(f"{what} ({how}), and there is no such folder on the node. Last words:\n{tail}")


def _snapshot(content: JsonValue) -> Snapshot | None:
    if not isinstance(content, dict) or not isinstance(content.get("commit"), str):
        return None
    sizes, blobs = (part if isinstance(part, dict) else {} for part in (content.get("files"), content.get("blobs")))
    return Snapshot(
        str(content["commit"]),
        {name: size for name, size in sizes.items() if isinstance(size, int)},
        {name: blob for name, blob in blobs.items() if isinstance(blob, str) and name in sizes},
    )


def _shards(folder: Path) -> list[str]:
    """Weight files by the index of a model's folder; an index that cannot be read is named as if it were one."""
    shards: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards.update(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return [f"{index.name} (as readable JSON)"]
    return sorted(shards) or [path.name for path in folder.glob("*.safetensors")] or ["model.safetensors"]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _hub_cache(env: Mapping[str, str]) -> Path:
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"])
    home = env.get("HF_HOME") or str(Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    return Path(home) / "hub"
