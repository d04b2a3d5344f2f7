"""Managed environments: a virtual environment per SGLang version and device, made once and kept.

Invariant: a folder with its marker file is whole. The marker is written last, under the lock; a folder without it is
what a killed build left, and is made again from nothing.
"""

import json
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from raybench import process
from raybench.engine.base import Progress
from raybench.engine.cache import cache_root, folder_mib, locked
from raybench.engine.interpreter import Interpreter
from raybench.engine.pins import PINS, Device, cpu_requirements, cpu_without_dependencies
from raybench.engine.task import Task, run_task
from raybench.errors import InterpreterError

MARKER = "raybench-complete.json"
LOG = "raybench-build.log"
PLATFORM = "raybench_cpu"
PIP_TIMEOUT_S = 3600.0
NEEDED_GIB = {"cpu": 6.0, "cuda": 16.0}
"""Free disk space that a build asks for: 2.6 GB stand at the end on CPU, 5.5 GB with torch's CUDA libraries; a CUDA
environment takes about 12."""
NEEDED_MEMORY_GIB = 6.0
_ELSEWHERE = "Run a configuration with the simulated engine here, such as configs/simulated-h200-b200.yaml."
CPU_ARGS: dict[str, str | int | bool] = {
    "device": "cpu",
    "attention-backend": "torch_native",
    "disable-overlap-schedule": True,
    # Without it the idle scheduler takes one whole core, measured 10.0 CPU seconds in 10.
    "sleep-on-idle": True,
    # Otherwise the cache is sized from the machine's memory, by every server on it.
    "max-total-tokens": 65536,
}
_AID = Path(__file__).parent / "cpu_platform"
_AID_FILES = ("raybench_cpu_platform.py", "raybench_torchvision_schemas.py")
_NOT_FOUND = ("No matching distribution found", "Could not find a version that satisfies")


@dataclass(frozen=True, slots=True)
class Build:
    """One environment being made."""

    folder: Path
    lock: int
    """Descriptor of the held lock; pip's guardian keeps it too: the next builder waits until nothing of pip is left."""
    label: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def managed(version: str, device: Device, progress: Progress) -> Interpreter:
    """The interpreter of the managed environment, made now if it does not stand. Raises InterpreterError."""
    if version not in PINS:
        raise InterpreterError(
            f"raybench has no recipe for SGLang {version}. Known versions: {', '.join(PINS)}. "
            "For another one make an environment yourself and name it with engine.environment: {python: PATH}."
        )
    label = f"managed {device} {version}"
    root = cache_root() / "environments"
    name = f"sglang-{version}-{device}-py{sys.version_info.major}.{sys.version_info.minor}"
    folder = root / name
    with locked(root / f"{name}.lock", f"the environment {label}", progress) as lock:
        build = Build(folder, lock, label)
        if not _is_whole(build):
            _make(build, version, device, progress)
        if device == "cpu":
            _write_aid(build)
    if device == "cpu":
        return Interpreter(build.python, label, {"SGLANG_PLATFORM": PLATFORM}, CPU_ARGS)
    return Interpreter(build.python, label)


def _is_whole(build: Build) -> bool:
    # The interpreter that the environment was made from may have been removed: its link then points nowhere.
    return (build.folder / MARKER).is_file() and build.python.exists()


def _make(build: Build, version: str, device: Device, progress: Progress) -> None:
    check_machine(build.label)
    _check_space(build, device)
    began = time.monotonic()
    if build.folder.exists():
        progress(f"removing an unfinished environment {build.label}")
        shutil.rmtree(build.folder)
    progress(f"making the environment {build.label} in {build.folder} (once; about 1 to 3 minutes)")
    code, output = process.run(
        [sys.executable, "-m", "venv", str(build.folder)], env=process.child_environment({}), timeout_s=300
    )
    if code != 0:
        raise InterpreterError(
            f"python -m venv failed for {build.label}:\n{_tail(output)}\nOn Debian and Ubuntu install python3-venv."
        )
    if device == "cpu":
        _install_cpu(build, version, progress)
    else:
        progress("a managed CUDA environment takes 10 GB or more; the raybench developers have not run this recipe")
        _must(_pip(build, [f"sglang=={version}", "datasets", "tabulate"], "installing SGLang", progress), build)
    facts = {"version": version, "device": device, "build_s": time.monotonic() - began, "mib": folder_mib(build.folder)}
    (build.folder / MARKER).write_text(json.dumps(facts))
    progress(f"environment {build.label} is ready ({facts['build_s']:.0f} s, {facts['mib']:,.0f} MiB)")


def _install_cpu(build: Build, version: str, progress: Progress) -> None:
    torch = PINS[version].torch
    code, output = _pip(build, [f"torch=={torch}+cpu"], "installing the CPU build of torch", progress)
    if code != 0 and any(words in output for words in _NOT_FOUND):
        progress(
            f"no CPU build of torch {torch} in pip's indexes; taking the registry's build with its CUDA libraries "
            "(about 3 GB to fetch, 5.5 GB on disk in all, two minutes or more). An extra index of pip with CPU builds "
            "avoids it."
        )
        code, output = _pip(build, [f"torch=={torch}"], "installing torch with its CUDA libraries", progress)
    _must((code, output), build)
    # torch is named again so that pip cannot exchange it for another build while it resolves the rest.
    pinned = _pip(build, [f"torch=={torch}", *cpu_requirements(version)], "installing what SGLang needs", progress)
    _must(pinned, build)
    alone = ["--no-deps", *cpu_without_dependencies(version)]
    _must(_pip(build, alone, f"installing SGLang {version}", progress), build)


def _pip(build: Build, words: list[str], label: str, progress: Progress) -> tuple[int, str]:
    env = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    progress(f"{build.label}: {label}")
    task = Task(
        argv=(str(build.python), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *words),
        env=process.child_environment(env),
        log=build.folder / LOG,
        label=f"{build.label}: {label}",
        timeout_s=PIP_TIMEOUT_S,
        mib=lambda: folder_mib(build.folder),
        keep_open=(build.lock,),
    )
    return run_task(task, progress)


def _must(done: tuple[int, str], build: Build) -> None:
    code, output = done
    if code == 0:
        return
    cause = "ran past its limit" if code == 124 else f"ended with exit code {code}"
    free_gib = shutil.disk_usage(build.folder).free / 2**30
    raise InterpreterError(
        f"pip {cause} while making the environment {build.label} ({free_gib:.1f} GiB of disk free). Its last words:\n"
        f"{_tail(output)}\n"
        "Check that pip reaches its package index, or name an interpreter that holds SGLang with "
        "engine.environment: {python: PATH}. The next run starts this build again."
    )


def check_machine(label: str) -> None:
    """Raises InterpreterError where SGLang cannot run: its wheels are x86-64 Linux with glibc 2.34 or newer.

    A server takes 2.05 GB (measured), building and Ray as much again: 6 GiB are the least for one.
    """
    libc, release = platform.libc_ver()
    found = f"{platform.system()} {platform.machine()} {libc} {release}".strip()
    new_enough = libc == "glibc" and tuple(int(part) for part in release.split(".")[:2]) >= (2, 34)
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not new_enough:
        raise InterpreterError(
            f"The environment {label} needs x86-64 Linux with glibc 2.34 or newer; this machine is {found}. "
            f"{_ELSEWHERE}"
        )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if memory_gib < NEEDED_MEMORY_GIB:
        raise InterpreterError(
            f"The environment {label} needs {NEEDED_MEMORY_GIB:.0f} GiB of memory; this machine has {memory_gib:.1f}. "
            f"{_ELSEWHERE}"
        )


def _check_space(build: Build, device: Device) -> None:
    existing = next(parent for parent in build.folder.parents if parent.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    if free_gib < NEEDED_GIB[device]:
        raise InterpreterError(
            f"The environment {build.label} needs {NEEDED_GIB[device]:.0f} GiB of disk; {existing} has {free_gib:.1f}. "
            "Free some, or set RAYBENCH_CACHE to a folder on a larger disk."
        )


def _write_aid(build: Build) -> None:
    """Put the CPU platform into the environment, or bring it up to date."""
    site = next((build.folder / "lib").glob("python*/site-packages"))
    info = site / "raybench_cpu_platform-0.0.0.dist-info"
    texts = {site / name: (_AID / name).read_text() for name in _AID_FILES} | {
        site / "raybench_torchvision_schemas.pth": "import raybench_torchvision_schemas\n",
        info / "METADATA": "Metadata-Version: 2.1\nName: raybench-cpu-platform\nVersion: 0.0.0\n",
        info / "entry_points.txt": f"[sglang.srt.platforms]\n{PLATFORM} = raybench_cpu_platform:activate\n",
    }
    info.mkdir(exist_ok=True)
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _tail(output: str, num_lines: int = 15) -> str:
    return "\n".join(output.strip().splitlines()[-num_lines:])
