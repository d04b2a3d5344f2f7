"""Command line and environment of an SGLang server. Pure."""

import json
from collections.abc import Mapping
from pathlib import Path

from raybench import process
from raybench.config.schema import FlagValue
from raybench.engine.base import Launch
from raybench.engine.interpreter import Interpreter
from raybench.engine.leftovers import MARK
from raybench.engine.models import ResolvedModel


def argv_of(model: ResolvedModel, args: Mapping[str, FlagValue], port: int, nccl_port: int) -> list[str]:
    """Words after `python -m sglang.launch_server`, all flags by their full names.

    True = the bare flag, False and None = left out, a mapping = one JSON word, a list = several words.
    """
    words = ["--model-path", str(model.path), "--served-model-name", model.served_name, "--host", "127.0.0.1"]
    words += ["--port", str(port)]
    if "nccl-port" not in args:
        words += ["--nccl-port", str(nccl_port)]
    for name, value in args.items():
        words += _flag(name, value)
    return words


def _flag(name: str, value: FlagValue) -> list[str]:
    if value is None or value is False:
        return []
    flag = f"--{name}"
    if value is True:
        return [flag]
    if isinstance(value, dict):
        return [flag, json.dumps(value, separators=(",", ":"))]
    if isinstance(value, list):
        return [flag, *(str(word) for word in value)]
    # One word where a value could be taken for a flag, such as a negative number's neighbour in an old parser.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def merged_args(launch: Launch, interpreter: Interpreter) -> dict[str, FlagValue]:
    """The environment's own flags with the configuration's laid over them."""
    return {**interpreter.default_args, **launch.engine.args}


def environment_of(launch: Launch, interpreter: Interpreter, parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of the server: whitelisted part of the parent's, ours, then the configuration's."""
    ours = {
        # Unset, torch's threads spin against the scheduler: 6.8 instead of 270 tok/s on a busy two-core machine.
        "OMP_NUM_THREADS": "1",
        # The model lies on disk; a server that asks the hub nonetheless would measure the network.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        # Children rename themselves; without this the new name overwrites the environment that holds the mark.
        "SPT_NOENV": "1",
    }
    # A virtual environment's own scripts (ninja, nvcc wrappers) are found as if it were activated.
    path = process.child_environment({}, parent).get("PATH", "/usr/bin:/bin")
    ours["PATH"] = f"{Path(interpreter.python).parent}:{path}"
    extra = {**ours, **interpreter.extra_env, **launch.engine.env}
    if interpreter.extra_env.get("PYTHONPATH"):
        extra["PYTHONPATH"] = interpreter.extra_env["PYTHONPATH"]
    extra[MARK] = launch.run_id
    return process.child_environment(extra, parent)


def settings_of(launch: Launch, parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """What of the server's environment may change its speed: the machine's own settings, then the configuration's."""
    inherited = process.child_environment({}, parent)
    return {name: inherited[name] for name in process.MACHINE_SETTINGS if name in inherited} | launch.engine.env
