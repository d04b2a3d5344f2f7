"""Where a model comes from on this node: a folder, the hub, or made here by raybench.

Everything is on disk before an engine starts, so that the start's time limit covers the start alone.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from raybench import process
from raybench.config.schema import ModelConfig
from raybench.engine.base import Progress
from raybench.engine.cache import cache_root, locked
from raybench.engine.hub import Surroundings, fetch
from raybench.engine.interpreter import Interpreter
from raybench.engine.shapes import SHAPES
from raybench.engine.task import TIMED_OUT, Task, run_task
from raybench.errors import EngineRefused, EngineStartError
from raybench.evals.sums_questions import questions

MADE = ("tiny:random", "tiny:trained", *(f"dummy:{name}" for name in SHAPES))
"""Models that raybench makes itself."""
ORIGIN = "raybench_model.json"
MAKE_TIMEOUT_S = 1200.0
_SCRIPTS = Path(__file__).parent / "scripts"
_HUB_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that lies on this node's disk."""

    path: Path
    """Folder with config.json."""
    revision: str
    """Hub commit, or `config-` and a hash of config.json and of how raybench made the weights."""
    served_name: str
    """Name for the OpenAI routes; never a path."""


def resolve_model(model: ModelConfig, interpreter: Interpreter, progress: Progress) -> ResolvedModel:
    """Find, fetch or make the model. Blocks, up to hours for a download.

    Raises EngineRefused (no such folder, no such id, not allowed), EngineStartError (network), StorageError.
    """
    if model.path.startswith(("tiny:", "dummy:")):
        folder = make_model(model.path, cache_root() / "models", interpreter.python, progress)
        return ResolvedModel(folder, folder_revision(folder), model.served_name or model.path.replace(":", "-"))
    local = Path(model.path).expanduser()
    if local.exists() or not _HUB_ID.match(model.path):
        return ResolvedModel(local.absolute(), folder_revision(local), model.served_name or local.absolute().name)
    folder, commit = fetch(model, Surroundings(interpreter.python, _SCRIPTS), progress)
    _config_bytes(folder)
    return ResolvedModel(folder, commit, model.served_name or model.path)


def folder_revision(folder: Path) -> str:
    """Content hash of a model folder's configuration. Raises EngineRefused if the folder is no model."""
    return f"config-{hashlib.sha256(_config_bytes(folder) + _origin_bytes(folder)).hexdigest()[:16]}"


def vocabulary_tokens(folder: Path) -> int | None:
    """Number of token ids by the folder's config.json; None where it does not say or cannot be read."""
    try:
        config: JsonValue = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    for part in (config, config.get("text_config") if isinstance(config, dict) else None):
        if isinstance(part, dict) and isinstance(part.get("vocab_size"), int):
            return int(str(part["vocab_size"]))
    return None


def make_model(spec: str, folder: Path, python: Path, progress: Progress) -> Path:
    """Make one of `MADE` below `folder`, once, with the interpreter of an engine; returns the model's folder.

    The folder's name holds a hash of everything that the result depends on, so a changed recipe makes a new folder.
    Raises EngineRefused for an unknown name, EngineStartError when the making fails.
    """
    if spec not in MADE:
        raise EngineRefused(f"raybench makes no model {spec!r}. It makes: {', '.join(MADE)}.")
    script, inputs = _recipe(spec)
    digest = hashlib.sha256(script.read_bytes() + json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{spec.replace(':', '-')}-{digest}"
    made = folder / name
    with locked(folder / f"{name}.lock", f"the model {spec}", progress):
        if not (made / ORIGIN).is_file():
            _make(spec, made, script, inputs, python, progress)
            (made / ORIGIN).write_text(json.dumps({"model": spec, "recipe": digest}))
    return made


def _recipe(spec: str) -> tuple[Path, JsonValue]:
    kind, name = spec.split(":", 1)
    if kind == "dummy":
        return _SCRIPTS / "shape_folder.py", SHAPES[name]
    taught: JsonValue = [[question, answer] for question, answer in questions()] if name == "trained" else None
    return _SCRIPTS / "tiny_model.py", taught


def _make(spec: str, made: Path, script: Path, inputs: JsonValue, python: Path, progress: Progress) -> None:
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    argv = [str(python), str(script), str(made)]
    if inputs is not None:
        (made / "raybench_inputs.json").write_text(json.dumps(inputs))
        argv.append(str(made / "raybench_inputs.json"))
    progress(f"making the model {spec} (once{'; trains for about a minute' if spec == 'tiny:trained' else ''})")
    env = process.child_environment({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    task = Task(tuple(argv), env, made / "raybench_make.log", f"making the model {spec}", MAKE_TIMEOUT_S)
    code, output = run_task(task, progress)
    if code != 0 or not (made / "config.json").is_file():
        raise EngineStartError(
            f"The model {spec} could not be made ({_how(code)}). Last words:\n{_tail(output)}\n"
            "It needs torch, transformers and tokenizers in the engine's interpreter (tokenizers alone for dummy:)."
        )


def _config_bytes(folder: Path) -> bytes:
    if not folder.is_dir():
        raise EngineRefused(
            f"There is no model folder {folder} on this node. model.path is a folder, a hub id (owner/name) or one of: "
            f"{', '.join(MADE)}."
        )
    try:
        content = (folder / "config.json").read_bytes()
        json.loads(content)
    except FileNotFoundError:
        raise EngineRefused(f"{folder} is no model folder: it has no config.json. Correct model.path.") from None
    except (OSError, ValueError) as error:
        raise EngineRefused(f"{folder / 'config.json'} cannot be read as JSON: {error}.") from error
    return content


def _origin_bytes(folder: Path) -> bytes:
    try:
        return (folder / ORIGIN).read_bytes()
    except OSError:
        return b""


def _how(code: int) -> str:
    return "ran past its limit" if code == TIMED_OUT else f"exit code {code}"


def _tail(output: str, num_lines: int = 12) -> str:
    return "\n".join(output.strip().splitlines()[-num_lines:])
