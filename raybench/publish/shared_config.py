"""The resolved configuration as others may see it: every field that is sent is named here. Pure.

A field that is added to the configuration stays at home until it is named in one of the two lists; a test asks for that
decision. What was left out is listed by name, so that a reader knows what to fill in.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from raybench.config.schema import RunConfig
from raybench.publish.privacy import clean_value

SENT = frozenset({
    "name", "seed", "model.path", "model.revision",
    "targets.name", "targets.accelerator", "targets.nodes", "targets.gpus_per_node", "targets.price_per_gpu_hour",
    "perf",
    "evals.name", "evals.rows", "evals.preset", "evals.sampling", "evals.repeats", "evals.greedy_repeats",
    "evals.route", "evals.limit", "evals.baseline", "evals.gate", "evals.margin", "evals.concurrency",
    "evals.block_size", "evals.timeout_s", "evals.stop_rules", "evals.adaptive",
    "evals.custom.grader", "evals.custom.min_max_tokens",
    "evals.reference.eval", "evals.reference.target", "evals.reference.model", "evals.reference.model_revision",
    "evals.reference.engine", "evals.reference.engine_version", "evals.reference.accelerator",
    "evals.reference.gpus_per_node", "evals.reference.simulated", "evals.reference.sampling", "evals.reference.route",
    "evals.reference.grader",
    "evals.reference.repeats", "evals.reference.num_questions", "evals.reference.num_scored",
    "evals.reference.score", "evals.reference.standard_error", "evals.reference.truncated_fraction",
    "evals.reference.unparsed_fraction", "evals.reference.date", "evals.reference.run_id",
    "evals.reference.raybench_version", "evals.reference.prompts_sha256",
    "preflight", "publish.sinks", "publish.share_samples",
}) | frozenset(
    f"{place}.{name}" for place in ("engine", "targets.engine")
    for name in ("kind", "environment.managed", "args", "startup_timeout_s", "simulated")
)  # fmt: skip
"""Dotted paths, lists left out; everything below a path is sent, texts and flags cleaned."""

KEPT = frozenset({
    "model.served_name", "evals.custom.columns", "evals.custom.request", "evals.reference.questions",
    "publish.follow", "publish.follow_every_s", "publish.wait_s", "publish.limit_s", "publish.history",
    "publish.wandb", "publish.trackio", "publish.mlflow",
}) | frozenset(
    f"{place}.{name}" for place in ("engine", "targets.engine")
    for name in ("environment.python", "env", "url", "api_key_env")
)  # fmt: skip
"""Paths of which it was decided that they stay at home."""


def shared_config(config: RunConfig) -> dict[str, JsonValue]:
    """What is sent, and under `left_out` the names of what was set and is not."""
    whole = config.model_dump(mode="json", exclude_none=True)
    left_out = sorted(set(_left_out(config.model_dump(mode="json", exclude_defaults=True), "")))
    return {**_picked(whole, ""), "left_out": [*left_out]}


def _picked(values: dict[str, JsonValue], above: str) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for name, value in values.items():
        path = f"{above}{name}"
        if path in SENT:
            found[name] = clean_value(value)
        elif isinstance(value, dict) and (below := _picked(value, f"{path}.")):
            found[name] = below
        elif isinstance(value, list):
            entries = [_picked(each, f"{path}.") for each in value if isinstance(each, dict)]
            if any(entries):
                found[name] = [*entries]
        elif value == "auto" and name == "environment":
            found[name] = value
    return found


def _left_out(value: JsonValue, path: str) -> Iterator[str]:
    """Paths of what differs from its default and is not sent."""
    if path in SENT or value == "auto":
        return
    inside = f"{path}." if path else ""
    if isinstance(value, list):
        for each in value:
            yield from _left_out(each, path)
    elif isinstance(value, dict) and any(known.startswith(inside) for known in SENT | KEPT):
        for name, each in value.items():
            yield from _left_out(each, f"{inside}{name}")
    else:
        yield path
