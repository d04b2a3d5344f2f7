"""Models of a hub on loopback: one download per cache, the disk first, and no hub at all for what is whole."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raybench.config.schema import ModelConfig
from raybench.engine import hub, task
from raybench.engine.hub import Surroundings, fetch
from raybench.engine.interpreter import Interpreter
from raybench.engine.models import resolve_model
from raybench.errors import EngineRefused, EngineStartError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"vocab_size": 7}', "model.safetensors": b"w" * 5000, "original/weights.pth": b"x" * 9000}
SHA256 = "5a" * 32
"""Of the weights, as the hub says it of a file in its large storage: it names the blob, the git id does not."""
AROUND = Surroundings(Path(sys.executable))
NOWHERE = Surroundings(Path("/no/such/python"))
"""Starting anything with it fails."""
PINNED = ModelConfig(path="owner/name", revision=COMMIT)
FLOATING = ModelConfig(path="owner/name")


class Hub(ThreadingHTTPServer):
    """Serves one model as the hub does, and counts who asks for what."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def num_downloads(self) -> dict[str, int]:
        return {name: n for name, n in self.asked.items() if name.startswith("GET ")}


def _blob(name: str) -> str:
    return SHA256 if name == "model.safetensors" else f"git-{name.replace('/', '-')}"


def _identity(name: str) -> dict[str, object]:
    large: dict[str, object] = {"lfs": {"size": len(FILES[name]), "sha256": SHA256, "pointerSize": 130}}
    return {"blobId": f"git-{name.replace('/', '-')}", **(large if name == "model.safetensors" else {})}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if re.fullmatch(r"/api/models/owner/name(/revision/(main|[0-9a-f]{40}))?", path):
            siblings = [{"rfilename": name, "size": len(data)} | _identity(name) for name, data in FILES.items()]
            self.server.asked["look-up"] += 1
            return self._send(json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode(), {}, body)
        if path == f"/api/models/owner/name/tree/{COMMIT}":
            tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in FILES.items()]
            return self._send(json.dumps(tree).encode(), {}, body)
        for name, data in FILES.items():
            if path == f"/owner/name/resolve/{COMMIT}/{name}":
                self.server.asked[f"{self.command} {name}"] += 1
                return self._send(data, {"ETag": f'"{_blob(name)}"', "X-Repo-Commit": COMMIT}, body)
        error = {"X-Error-Code": "RepoNotFound"} if "/missing" in path else {}
        return self._send(b"{}", error, body, 404)

    def _send(self, data: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and a cache of raybench."""
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "raybench"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


def nothing(_: str) -> None:
    """A progress that nobody reads."""


def test_a_model_is_fetched_at_its_commit_with_progress_and_without_what_no_engine_reads(
    server: Hub, cache: Path
) -> None:
    said: list[str] = []
    folder, commit = fetch(FLOATING, AROUND, said.append)
    assert (folder, commit) == (cache / "models--owner--name" / "snapshots" / COMMIT, COMMIT)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert said == ["fetching owner/name at commit 0123456789ab, 0 MiB in all"]


def test_nodes_that_share_a_cache_fetch_once(server: Hub, cache: Path) -> None:
    found: list[Path] = []
    nodes = [threading.Thread(target=lambda: found.append(fetch(FLOATING, AROUND, nothing)[0])) for _ in range(4)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert server.num_downloads() == {"GET config.json": 1, "GET model.safetensors": 1}


def test_a_pinned_revision_that_is_whole_asks_nobody(server: Hub, cache: Path) -> None:
    folder, _ = fetch(PINNED, AROUND, nothing)
    said: list[str] = []
    before = server.asked.total()
    assert fetch(PINNED, NOWHERE, said.append) == (folder, COMMIT)
    assert server.asked.total() == before
    assert said == ["owner/name lies in the cache at commit 0123456789ab"]


def test_what_was_cut_since_is_fetched_or_refused_and_never_served(server: Hub, cache: Path) -> None:
    folder, _ = fetch(PINNED, AROUND, nothing)
    (folder / "config.json").unlink()
    fetch(PINNED, AROUND, nothing)
    assert (folder / "config.json").read_bytes() == FILES["config.json"]
    # A blob of the wrong size is one that huggingface_hub takes for good.
    (folder / "model.safetensors").resolve().write_bytes(b"cut")
    with pytest.raises(EngineStartError, match=r"missing or cut in .*Delete .*models--owner--name"):
        fetch(PINNED, AROUND, nothing)


def test_a_hub_that_does_not_answer_is_no_matter_for_what_is_whole(
    server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = fetch(FLOATING, AROUND, nothing)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    (cache / "models--owner--name" / "refs").mkdir(exist_ok=True)
    (cache / "models--owner--name" / "refs" / "main").write_text(COMMIT)
    said: list[str] = []
    assert fetch(FLOATING, AROUND, said.append) == (folder, COMMIT)
    assert said[0] == "the hub does not answer; the cache holds owner/name at commit 0123456789ab"
    (folder / "config.json").unlink()
    with pytest.raises(EngineStartError, match=r"(?s)could not be fetched.*but there config\.json is missing or cut"):
        fetch(FLOATING, AROUND, nothing)


def hf_download(cache: Path, files: dict[str, bytes]) -> Path:
    """What `hf download` leaves of a commit: links to blobs, and no note of raybench."""
    model = cache / "models--owner--name"
    folder = model / "snapshots" / COMMIT
    for path in (folder, model / "blobs", model / "refs"):
        path.mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    for name, data in files.items():
        (model / "blobs" / f"id-{name}").write_bytes(data)
        (folder / name).symlink_to(Path("..") / ".." / "blobs" / f"id-{name}")
    return folder


SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
INDEX = json.dumps({"weight_map": {"a.weight": SHARDS[0], "b.weight": SHARDS[1], "c.weight": SHARDS[1]}}).encode()
SHARDED = {"config.json": b"{}", "model.safetensors.index.json": INDEX} | dict.fromkeys(SHARDS, b"w")


@pytest.mark.parametrize("model", [PINNED, FLOATING])
@pytest.mark.parametrize("files", [SHARDED, {"config.json": b"{}", "model.safetensors": b"w"}])
def test_a_cache_that_others_filled_serves_without_a_hub_and_gets_no_note(
    cache: Path, monkeypatch: pytest.MonkeyPatch, model: ModelConfig, files: dict[str, bytes]
) -> None:
    folder = hf_download(cache, files)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said: list[str] = []
    assert fetch(model, AROUND, said.append) == (folder, COMMIT)
    assert said == [
        "the hub does not answer; the cache holds owner/name at commit 0123456789ab, filled by others: "
        "all weights that its own index names are there"
    ]
    assert list((cache / hub.NOTES).glob("*.json")) == []


@pytest.mark.parametrize("gone", [SHARDS[1], "config.json", "model.safetensors.index.json"])
def test_a_cache_that_others_filled_in_part_is_refused_with_the_name_of_what_is_missing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    folder = hf_download(cache, SHARDED)
    # A link whose blob is gone, as a pruned cache has them.
    (folder / gone).resolve().unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    says = f"could not be fetched.*\n.*in {folder}, but there {re.escape(gone)}.* is missing or cut"
    with pytest.raises(EngineStartError, match=f"(?s){says}"):
        fetch(PINNED, AROUND, nothing)


def test_without_weights_a_cache_that_others_filled_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_download(cache, {"config.json": b"{}"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EngineStartError, match=r"but there model\.safetensors is missing or cut"):
        fetch(PINNED, AROUND, nothing)


def test_the_disk_is_asked_before_the_hub_is_emptied_onto_it(server: Hub, cache: Path) -> None:
    wanted = len(FILES["config.json"]) + len(FILES["model.safetensors"])
    small = Surroundings(Path(sys.executable), free_bytes=lambda _: wanted + hub.SPARE_BYTES - 1)
    with pytest.raises(EngineRefused, match=r"needs 0\.0 GB more in .*hub, whose disk has 1\.1 GB free\. Make room"):
        fetch(FLOATING, small, nothing)
    assert server.num_downloads() == {}
    fetch(FLOATING, Surroundings(Path(sys.executable), free_bytes=lambda _: wanted + hub.SPARE_BYTES), nothing)


def test_what_lies_there_under_another_commit_takes_no_room_and_is_not_fetched_again(server: Hub, cache: Path) -> None:
    folder, _ = fetch(FLOATING, AROUND, nothing)
    folder.rename(folder.parent / ("f" * 40))
    before = server.num_downloads()
    full = Surroundings(Path(sys.executable), free_bytes=lambda _: 0)
    assert fetch(FLOATING, full, nothing) == (folder, COMMIT)
    assert server.num_downloads() == before
    # A blob that is cut is not there.
    folder.rename(folder.parent / ("e" * 40))
    (cache / "models--owner--name" / "blobs" / SHA256).write_bytes(b"cut")
    with pytest.raises(EngineRefused, match="Make room"):
        fetch(FLOATING, full, nothing)


def test_pieces_that_nobody_goes_on_with_make_no_room_and_are_named(server: Hub, cache: Path) -> None:
    blobs = cache / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    resumed, stale = blobs / f"{SHA256}.incomplete", blobs / f"{SHA256}.0a1b2c3d.incomplete"
    wanted = len(FILES["config.json"]) + len(FILES["model.safetensors"])
    around = Surroundings(Path(sys.executable), free_bytes=lambda _: wanted - 4000 + hub.SPARE_BYTES)
    stale.write_bytes(b"w" * 4000)
    with pytest.raises(EngineRefused, match=r"Pieces of other downloads take 0\.0 GB there: .*/blobs/\*\.incomplete"):
        fetch(FLOATING, around, nothing)
    stale.rename(resumed)
    fetch(FLOATING, around, nothing)


def test_an_id_that_the_hub_does_not_know_is_refused(server: Hub) -> None:
    with pytest.raises(EngineRefused, match="no such id"):
        fetch(ModelConfig(path="owner/missing"), AROUND, nothing)


def test_a_cache_that_may_only_be_read_is_used_as_it_is(
    server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = fetch(FLOATING, AROUND, nothing)
    for path in (cache / hub.NOTES).iterdir():
        path.unlink()
    (cache / hub.NOTES).rmdir()
    (cache / hub.NOTES).write_text("no folder can be made here, even by root")
    assert fetch(FLOATING, AROUND, nothing) == (folder, COMMIT)


def test_a_file_system_without_locks_is_told_and_used(
    server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    said: list[str] = []
    fetch(FLOATING, AROUND, said.append)
    assert said[0].endswith("knows no locks: nodes may download side by side")


def test_a_fetched_model_is_served_by_its_id_and_revised_by_its_commit(server: Hub) -> None:
    model = resolve_model(
        ModelConfig(path="owner/name", revision="main"), Interpreter(AROUND.python, "python"), nothing
    )
    assert (model.path.name, model.revision, model.served_name) == (COMMIT, COMMIT, "owner/name")


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    return folder


SLOW = """
import json, os, sys, time
from pathlib import Path
model = Path(os.environ["HF_HUB_CACHE"]) / "models--owner--name"
if sys.argv[1] == "plan":
    files = {"config.json": 2, "model.safetensors": 4 * 2**20}
    print("plan", json.dumps({"commit": "c", "files": files, "blobs": {"model.safetensors": "new"}}))
else:
    os.truncate(os.open(model / "blobs" / "new.0a1b2c3d.incomplete", os.O_CREAT | os.O_RDWR), NOW)
    time.sleep(1.5)
    sys.exit("cut")
"""


@pytest.mark.parametrize(("now_mib", "shown"), [(3, "3"), (50, "4")])
def test_progress_counts_what_belongs_to_the_commit_and_never_more_than_all(
    cache: Path, scripts: Path, monkeypatch: pytest.MonkeyPatch, now_mib: int, shown: str
) -> None:
    blobs = cache / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    for name, mib in (("of-another-commit", 9), ("new.ffffffff.incomplete", 2)):
        with (blobs / name).open("wb") as file:
            file.truncate(mib * 2**20)
    (scripts / "fetch_snapshot.py").write_text(SLOW.replace("NOW", str(now_mib * 2**20)))
    monkeypatch.setattr(task, "REPORT_EVERY_S", 0.5)
    said: list[str] = []
    with pytest.raises(EngineStartError):
        fetch(FLOATING, Surroundings(AROUND.python, scripts), said.append)
    assert re.fullmatch(rf"fetching .*, 4 MiB in all \(\d+ s, {shown} MiB\)", said[-1])


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ("huggingface_hub.errors.GatedRepoError: 403 Client Error", EngineRefused, "gated"),
        ("huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error", EngineRefused, "no such id"),
        ("huggingface_hub.errors.RevisionNotFoundError: 404", EngineRefused, "no revision 'v1'"),
        ("ConnectionError: no route, token hidden-token-1", EngineStartError, "could not be fetched"),
    ],
)
def test_a_fetch_that_fails(
    cache: Path, scripts: Path, monkeypatch: pytest.MonkeyPatch, words: str, kind: type, says: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hidden-token-1")
    (scripts / "fetch_snapshot.py").write_text(f"raise SystemExit({words!r})")
    with pytest.raises(EngineStartError) as raised:
        fetch(ModelConfig(path="owner/name", revision="v1"), Surroundings(AROUND.python, scripts), nothing)
    assert type(raised.value) is kind
    assert says in raised.value.message
    assert "hidden-token-1" not in raised.value.message


def test_the_hub_token_reaches_the_download_only_by_name(
    cache: Path, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hidden-token-1")
    monkeypatch.setenv("OTHER_TOKEN", "hidden-token-2")
    (scripts / "fetch_snapshot.py").write_text("import os; raise SystemExit(repr(sorted(os.environ)))")
    with pytest.raises(EngineStartError) as raised:
        fetch(FLOATING, Surroundings(AROUND.python, scripts), nothing)
    assert "'HF_TOKEN'" in raised.value.message
    assert "OTHER_TOKEN" not in raised.value.message


FETCHER = """
import sys
from pathlib import Path
from raybench.config.schema import ModelConfig
from raybench.engine.hub import Surroundings, fetch
fetch(ModelConfig(path="owner/name"), Surroundings(Path(sys.executable), Path(sys.argv[1])), print)
"""


def test_the_next_fetch_waits_until_the_one_of_a_killed_worker_is_gone(cache: Path, scripts: Path) -> None:
    said = scripts / "pid"
    (scripts / "fetch_snapshot.py").write_text(
        f"import os, time; open({str(said)!r}, 'w').write(str(os.getpid()) + '\\n'); time.sleep(60)"
    )
    worker = subprocess.Popen([sys.executable, "-c", FETCHER, str(scripts)], env={**os.environ, "TMPDIR": str(scripts)})
    limit = time.monotonic() + 30
    while not said.exists() or not said.read_text().endswith("\n"):
        assert time.monotonic() < limit
        time.sleep(0.05)
    worker.kill()
    worker.wait()
    with (cache / hub.NOTES / "owner--name.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert not Path(f"/proc/{said.read_text().strip()}").exists()
