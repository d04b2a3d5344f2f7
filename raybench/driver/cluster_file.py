"""A cluster file held against Ray's own schema and against the lint of what that lets through."""

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from ray.autoscaler._private.util import fillout_defaults, prepare_config, validate_config

from raybench.config.cluster_lint import lint_cluster
from raybench.config.kuberay_lint import lint_kuberay
from raybench.config.lint import Lint
from raybench.config.source import parse
from raybench.errors import ConfigError

KUBERAY = ("RayJob", "RayCluster")


def check_cluster_file(path: Path) -> tuple[Lint, ...]:
    """Everything that is wrong with the file. Raises ConfigError where it is no cluster file at all."""
    try:
        document = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    content = document.data
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected the settings of a cluster, found none")
    if content.get("kind") in KUBERAY:
        return lint_kuberay(document)
    if not isinstance(content.get("provider"), dict):
        raise ConfigError(
            f"{path}: expected a file for `ray up` (with `provider`) or a {' or '.join(KUBERAY)} of KubeRay, found "
            f"neither; a configuration of a run is checked by `raybench plan {path}`"
        )
    complaint = schema_complaint(content)
    refused = () if complaint is None else (Lint("schema", "error", str(path), f"Ray refuses it: {complaint}"),)
    return refused + lint_cluster(document)


def schema_complaint(content: dict[str, Any]) -> str | None:
    """What Ray's own schema says against the settings of a cluster; None = nothing. Nothing is started."""
    settings = copy.deepcopy(content)
    try:
        with _silence():
            # Hosts of one's own are turned into node types first; a cloud's would ask the cloud.
            local = settings["provider"].get("type") == "local"
            validate_config(prepare_config(settings) if local else fillout_defaults(settings))
    except Exception as error:  # noqa: BLE001 - jsonschema's, Ray's own and plain KeyErrors of its code
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        return " ".join(str(message).split())[:500]
    return None


@contextmanager
def _silence() -> Iterator[None]:
    """Ray prints advice of its own meanwhile, which would stand between ours."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
