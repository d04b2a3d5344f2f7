"""The interpreter that an engine runs in, and the question whether it holds SGLang."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raybench import process
from raybench.config.schema import FlagValue
from raybench.errors import InterpreterError

ASK_TIMEOUT_S = 60.0
_ASK = "import importlib.metadata as m; print('sglang', m.version('sglang'))"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that holds SGLang."""

    python: Path
    """Path of the interpreter."""
    label: str
    """Kind of the environment, without a path: `node`, `python`, `managed cpu 0.5.21`."""
    extra_env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that its engine needs."""
    default_args: Mapping[str, FlagValue] = field(default_factory=dict)
    """Flags that its engine needs; the configuration's own win."""


def sglang_version(python: Path, env: Mapping[str, str]) -> str | None:
    """Version of SGLang that `python` would run under `env`, by its metadata (nothing is imported); None without it.

    Raises InterpreterError if `python` is no interpreter that runs.
    """
    if not python.exists():
        raise InterpreterError(f"There is no interpreter {python} on this node. Correct engine.environment.python.")
    try:
        code, output = process.run(
            [str(python), "-c", _ASK], env=process.child_environment(env), timeout_s=ASK_TIMEOUT_S
        )
    except OSError as error:
        raise InterpreterError(
            f"{python} cannot be run ({error.strerror}). Correct engine.environment.python."
        ) from error
    said = [line for line in output.splitlines() if line.startswith("sglang ")]
    if code == 0 and said:
        return said[-1].split()[1]
    if "PackageNotFoundError" in output:
        return None
    raise InterpreterError(f"{python} is no Python that runs (exit code {code}): {output.strip()[-300:]}")
