"""Whether a run that is gone on with is the run that was begun."""

import json
from pathlib import Path

from pydantic import JsonValue

from raybench.config.schema import RunConfig
from raybench.errors import PlanError
from raybench.ledger.view import RunView
from raybench.plan.keys import plan_digest
from raybench.records import CheckUnit, Plan

SHOWN_CHANGES = 8
"""Differences between two configurations that a message shows."""


def same_plan(view: RunView, config: RunConfig, plan: Plan, folder: Path) -> None:
    """Raise PlanError, naming what differs, unless the run in the folder planned the very work of this plan."""
    if view.plan is None or view.plan.digest == plan_digest(plan):
        return
    planned = () if view.plan is None else view.plan.plan.units
    old = {unit.key for unit in planned if not isinstance(unit, CheckUnit)}
    new = {unit.key for unit in plan.units if not isinstance(unit, CheckUnit)}
    changes = _differences(view.config.model_dump(mode="json"), config.model_dump(mode="json"))
    shown = [f"  {change}" for change in changes[:SHOWN_CHANGES]]
    if len(changes) > SHOWN_CHANGES:
        shown.append(f"  and {len(changes) - SHOWN_CHANGES} more")
    raise PlanError(
        "\n".join([
            f"the configuration plans other work than {folder} holds: {len(old - new)} of its {len(old)} units "
            f"are gone and {len(new - old)} are new. What differs (run folder -> now):",
            *(shown or ["  nothing in the configuration: the rows of an eval, or raybench itself, have changed"]),
            "Resume with the configuration that it was started with, or start a new run with another --out.",
        ])
    )  # fmt: skip


def _differences(old: JsonValue, new: JsonValue, path: str = "") -> list[str]:
    """Leaves of a configuration that differ, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = list(dict.fromkeys([*old, *new]))
        pairs = [(name, old.get(name), new.get(name)) for name in names]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]
    return [line for name, a, b in pairs for line in _differences(a, b, f"{path}.{name}" if path else name)]


def _short(value: JsonValue) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
