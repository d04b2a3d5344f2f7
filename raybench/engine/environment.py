"""Choice of the interpreter that an engine runs in.

raybench never imports SGLang: its pins are not ours. `auto` takes the node's own python if that holds SGLang (read from
metadata), else a managed environment: CUDA where an NVIDIA GPU is, CPU elsewhere.
"""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from raybench.config.schema import Environment, Managed, PythonEnvironment
from raybench.engine.base import Progress
from raybench.engine.interpreter import Interpreter, sglang_version
from raybench.engine.managed import managed
from raybench.engine.pins import DEFAULT_VERSION
from raybench.errors import InterpreterError


def resolve(environment: Environment, progress: Progress, env: Mapping[str, str] | None = None) -> Interpreter:
    """The interpreter for `environment` on this node; `env` = the variables that the configuration sets (engine.env).

    Blocks while a managed environment is made (minutes, once). Raises InterpreterError, StorageError.
    """
    match environment:
        case PythonEnvironment():
            return _given(Path(environment.python).expanduser(), env or {})
        case Managed():
            return managed(environment.managed.version, environment.managed.device, progress)
        case "auto":
            own = _node_python(env or {})
            return own if own is not None else managed(DEFAULT_VERSION, "cuda" if has_gpu() else "cpu", progress)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is to be seen, without any library."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _given(python: Path, env: Mapping[str, str]) -> Interpreter:
    if sglang_version(python, env) is None:
        raise InterpreterError(
            f"{python} holds no SGLang. Install it there, or set engine.environment to auto or to a managed one."
        )
    return Interpreter(python.absolute(), "python")


def _node_python(env: Mapping[str, str]) -> Interpreter | None:
    python = Path(sys.executable)
    if sglang_version(python, env) is not None:
        return Interpreter(python, "node")
    try:
        folder = importlib.metadata.distribution("sglang").locate_file("")
    except importlib.metadata.PackageNotFoundError:
        return None
    # This process sees SGLang in a folder that a child without PYTHONPATH does not: that one folder is passed on.
    paths = [entry for entry in (str(folder), env.get("PYTHONPATH")) if entry]
    return Interpreter(python, "node", {"PYTHONPATH": os.pathsep.join(paths)})
