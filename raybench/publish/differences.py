"""What is not the same on all sides of a comparison: model, versions, hardware, evals, engine arguments. Pure.

Made from the arms themselves, so that it holds over run folders of any date: a report of one run folder knows only the
differences between its own targets.
"""

from collections.abc import Iterator, Sequence

from raybench.publish.arms import Arm
from raybench.publish.content import Cell, Table
from raybench.publish.names import last_part
from raybench.publish.privacy import clean

DIFFERENCES = "compare/configuration"
ASKED, CHOSEN = "asked for", "engine's choice"
VERSIONS = ("model", "model revision", "engine", "engine version", "raybench version")
"""Where one of them differs, a ratio says as much about it as about the hardware."""


def differences(arms: Sequence[Arm]) -> Table:
    """A row for each thing that differs, a column for each arm; None = that side does not say."""
    rows = [(name, "", *values) for name, values in _facts(arms).items() if len(set(values)) > 1]
    found = (*rows, *_asked(arms), *_arguments(arms))
    return Table(DIFFERENCES, ("name", "chosen", *(arm.label for arm in arms)), found)


def _facts(arms: Sequence[Arm]) -> dict[str, list[Cell]]:
    return {
        "model": [last_part(arm.model) for arm in arms],
        "model revision": [", ".join(arm.target.model_revisions) or None for arm in arms],
        "engine": [arm.target.engine for arm in arms],
        "engine version": [", ".join(arm.target.engine_versions) or None for arm in arms],
        "raybench version": [arm.raybench_version for arm in arms],
        "GPUs": [", ".join(arm.target.gpus) or None for arm in arms],
        "driver": [", ".join(arm.target.drivers) or None for arm in arms],
    }


def _asked(arms: Sequence[Arm]) -> Iterator[tuple[Cell, ...]]:
    """How an eval was asked, where two sides that have it were asked otherwise."""
    for eval_name in dict.fromkeys(name for arm in arms for name in arm.graded):
        sides = [arm.graded[eval_name].asked if eval_name in arm.graded else None for arm in arms]
        for what in dict.fromkeys(what for side in sides if side for what in side):
            if len({side[what] for side in sides if side}) > 1:
                yield (f"{eval_name}: {what}", "", *(side[what] if side else None for side in sides))


def _arguments(arms: Sequence[Arm]) -> list[tuple[Cell, ...]]:
    telling = [arm for arm in arms if arm.target.resolved_args]
    names = dict.fromkeys(name for arm in telling for name in arm.target.resolved_args)
    found: list[tuple[Cell, ...]] = []
    for name in names:
        if any(arm.target.resolved_args.get(name) != telling[0].target.resolved_args.get(name) for arm in telling):
            asked = any(name.replace("_", "-") in arm.target.args for arm in arms)
            found.append((name, ASKED if asked else CHOSEN, *(_value(arm, name) for arm in arms)))
    return found


def _value(arm: Arm, name: str) -> str | None:
    value = arm.target.resolved_args.get(name)
    return None if value is None else clean(last_part(str(value)))
