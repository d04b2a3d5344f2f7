"""The choice of the interpreter, and a managed environment with a pip that is a stand-in."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raybench.config.schema import Managed, ManagedEnvironment, PythonEnvironment
from raybench.engine import environment, managed
from raybench.engine.cache import NoLocks, cache_root, folder_mib, locked
from raybench.engine.environment import resolve
from raybench.engine.interpreter import sglang_version
from raybench.engine.pins import DEFAULT_VERSION, PINS
from raybench.errors import InterpreterError, StorageError
from raybench.process import child_environment

CPU = Managed(managed=ManagedEnvironment(version=DEFAULT_VERSION, device="cpu"))


def nothing(_: str) -> None:
    """A progress that nobody reads."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class FakePip:
    """Answers pip's calls in a venv that is a folder with a link."""

    def __init__(self, answers: dict[str, tuple[int, str]] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[list[str]] = []

    def make_venv(self, argv: list[str], **_: object) -> tuple[int, str]:
        folder = Path(argv[-1])
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)
        (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
        return 0, ""

    def install(self, build: managed.Build, words: list[str], label: str, progress: object) -> tuple[int, str]:
        self.calls.append(words)
        return self.answers.get(words[0], (0, "done"))


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, cache: Path) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(managed, "_pip", fake.install)
    monkeypatch.setattr(managed.process, "run", fake.make_venv)
    monkeypatch.setattr(managed, "check_machine", lambda _: None)
    return fake


def test_a_given_python_with_sglang_is_taken(fake_sglang: Path) -> None:
    chosen = resolve(PythonEnvironment(python=sys.executable), nothing, {"PYTHONPATH": str(fake_sglang)})
    assert (chosen.python, chosen.label, dict(chosen.default_args)) == (Path(sys.executable), "python", {})
    assert sglang_version(chosen.python, {"PYTHONPATH": str(fake_sglang)}) == "0.5.21"


@pytest.mark.parametrize(
    ("python", "says"),
    [(sys.executable, "holds no SGLang"), ("/missing/python", "no interpreter"), ("/bin/true", "no Python that runs")],
)
def test_a_given_python_that_will_not_do(python: str, says: str) -> None:
    with pytest.raises(InterpreterError, match=says):
        resolve(PythonEnvironment(python=python), nothing)


def test_a_file_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("text")
    with pytest.raises(InterpreterError, match="cannot be run"):
        resolve(PythonEnvironment(python=str(tmp_path / "python")), nothing)


def test_auto_takes_the_nodes_python_where_it_holds_sglang(fake_sglang: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(fake_sglang))
    chosen = resolve("auto", nothing)
    assert (chosen.python, chosen.label) == (Path(sys.executable), "node")
    # The child does not inherit PYTHONPATH, so the one folder is passed on.
    assert chosen.extra_env == {"PYTHONPATH": str(fake_sglang)}
    assert sglang_version(chosen.python, chosen.extra_env) == "0.5.21"


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_else_takes_a_managed_one_for_the_device(
    monkeypatch: pytest.MonkeyPatch, pip: FakePip, gpu: bool, device: str
) -> None:
    monkeypatch.setattr(environment, "has_gpu", lambda: gpu)
    monkeypatch.setattr(environment, "_node_python", lambda _: None)
    assert resolve("auto", nothing).label == f"managed {device} {DEFAULT_VERSION}"


def test_a_managed_environment_is_made_once_with_the_aid(pip: FakePip) -> None:
    lines: list[str] = []
    first = resolve(CPU, lines.append)
    pins = PINS[DEFAULT_VERSION]
    assert [words[:2] for words in pip.calls] == [
        [f"torch=={pins.torch}+cpu"],
        [f"torch=={pins.torch}", f"transformers=={pins.transformers}"],
        ["--no-deps", f"sglang=={DEFAULT_VERSION}"],
    ]
    site = next((first.python.parents[1] / "lib").glob("*/site-packages"))
    assert (site / "raybench_torchvision_schemas.pth").read_text() == "import raybench_torchvision_schemas\n"
    assert "raybench_cpu_platform:activate" in next(site.glob("raybench*.dist-info/entry_points.txt")).read_text()
    assert first.extra_env == {"SGLANG_PLATFORM": "raybench_cpu"}
    assert first.default_args["sleep-on-idle"] is True
    assert "is ready" in lines[-1]
    (site / "raybench_cpu_platform.py").write_text("an older raybench's")
    assert resolve(CPU, lines.append) == first
    assert len(pip.calls) == 3
    assert "RaybenchCpuPlatform" in (site / "raybench_cpu_platform.py").read_text()


def test_without_a_cpu_build_of_torch_the_size_is_told_first(pip: FakePip) -> None:
    torch = PINS[DEFAULT_VERSION].torch
    pip.answers = {f"torch=={torch}+cpu": (1, "ERROR: No matching distribution found for torch")}
    lines: list[str] = []
    resolve(CPU, lines.append)
    assert [f"torch=={torch}"] in pip.calls
    assert any("about 3 GB to fetch" in line for line in lines)


def test_a_failed_build_says_why_and_is_made_again(pip: FakePip) -> None:
    pip.answers = {"--no-deps": (1, "ERROR: no space left on device")}
    with pytest.raises(InterpreterError, match=r"exit code 1[\s\S]*no space left"):
        resolve(CPU, nothing)
    pip.answers = {}
    lines: list[str] = []
    resolve(CPU, lines.append)
    assert any("removing an unfinished environment" in line for line in lines)


def test_no_network_is_not_taken_for_a_missing_build(pip: FakePip) -> None:
    pip.answers = {f"torch=={PINS[DEFAULT_VERSION].torch}+cpu": (1, "ERROR: connection refused")}
    with pytest.raises(InterpreterError, match="connection refused"):
        resolve(CPU, nothing)


def test_an_unknown_version_names_the_known_ones(cache: Path) -> None:
    unknown = Managed(managed=ManagedEnvironment(version="0.4.0", device="cpu"))
    with pytest.raises(InterpreterError, match=r"no recipe for SGLang 0\.4\.0.*0\.5\.18.*0\.5\.21"):
        resolve(unknown, nothing)


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [("Darwin", "arm64", ("", "")), ("Linux", "aarch64", ("glibc", "2.36")), ("Linux", "x86_64", ("glibc", "2.31"))],
)
def test_a_machine_without_wheels_is_told_so(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: tuple[str, str]
) -> None:
    monkeypatch.setattr(managed.platform, "system", lambda: system)
    monkeypatch.setattr(managed.platform, "machine", lambda: machine)
    monkeypatch.setattr(managed.platform, "libc_ver", lambda: libc)
    with pytest.raises(InterpreterError, match=f"this machine is {system} {machine}.*simulated"):
        managed.check_machine("managed cpu")


def test_a_machine_without_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "NEEDED_MEMORY_GIB", 1e6)
    with pytest.raises(InterpreterError, match=r"1000000 GiB of memory; this machine has .*simulated"):
        managed.check_machine("managed cpu")


def test_a_full_disk_is_told_before_anything_is_made(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "NEEDED_GIB", {"cpu": 1e9, "cuda": 1e9})
    with pytest.raises(InterpreterError, match=r"GiB of disk.*RAYBENCH_CACHE"):
        resolve(CPU, nothing)
    assert pip.calls == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="RAYBENCH_CACHE"):
        resolve(CPU, nothing)


@pytest.mark.parametrize(
    ("env", "root"),
    [({"RAYBENCH_CACHE": "/a"}, "/a"), ({"XDG_CACHE_HOME": "/b"}, "/b/raybench"), ({}, "~/.cache/raybench")],
)
def test_the_place_of_the_cache(env: dict[str, str], root: str) -> None:
    assert cache_root(env) == Path(root).expanduser()


def test_a_lock_is_waited_for_even_if_only_a_child_of_its_holder_lives(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    script = f"""
import subprocess, sys
from pathlib import Path
from raybench.engine.cache import locked
with locked(Path({str(lock)!r}), "it", print) as held:
    child = subprocess.Popen(["sleep", "600"], pass_fds=(held,), stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    child.wait()
"""
    env = child_environment({"PYTHONPATH": os.pathsep.join(sys.path)})
    holder = subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    holder.stdout.close()
    waited: list[str] = []

    def on_wait(line: str) -> None:
        waited.append(line)
        os.kill(child, signal.SIGKILL)

    with locked(lock, "the environment", on_wait):
        assert "waiting for another process that makes the environment" in waited[0]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EOPNOTSUPP, NoLocks, "its file system knows no locks (Operation not supported)"),
        (errno.EIO, StorageError, "Input/output error"),
    ],
)
def test_a_cache_that_cannot_be_locked_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageError], words: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    told = re.escape(f"some.lock cannot be locked: {words}. Set RAYBENCH_CACHE to a folder on another file system.")
    with pytest.raises(StorageError, match=told) as error, locked(tmp_path / "some.lock", "it", print):
        raise AssertionError("held")
    assert type(error.value) is kind


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 2**20)
    assert folder_mib(tmp_path) == 1.0
    assert folder_mib(tmp_path / "missing") == 0.0
