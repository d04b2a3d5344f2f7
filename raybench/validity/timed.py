"""Was the configuration that answered an eval the one that was timed? Pure.

A server may be fast with one set of kernels and right with another. A score stands beside a speed only when both come
from engine starts that are equal in everything that changes speed or numerics.
"""

from typing import Literal

from pydantic import Field, JsonValue

from raybench.ledger.view import RunView
from raybench.records import EngineFacts, EvalUnit, Record, Timed, content_hash
from raybench.validity.engine import KERNEL_ARGS

_OWN_FLAGS = ("--port", "--nccl-port", "--host")
"""Flags that raybench draws anew at every start."""


class TimedConfiguration(Record):
    """The configuration that answered an eval, held against the one that was timed on the same target."""

    status: Literal["timed", "another", "nothing_timed"]
    """timed = every start that answered equals one that was timed. another = one does not. nothing_timed = the run has
    no performance results of this target."""
    configuration: str | None = None
    """Hash of what changes speed or numerics, of the first start that answered; None where none is known."""
    differences: tuple[str, ...] = Field(default=())
    """For `another`: what differs from the first timed start, in words."""


def configuration_of(facts: EngineFacts) -> dict[str, JsonValue]:
    """Everything of a start that changes speed or numerics."""
    return {
        "engine": facts.engine,
        "version": facts.version,
        "model revision": facts.model_revision,
        "flags": " ".join(_flags(facts.argv)),
        "env": dict(facts.env),
        "interpreter": facts.interpreter,
        **{name: facts.resolved_args.get(name) for name in KERNEL_ARGS},
    }


def timed_configuration(view: RunView, target: str, eval_name: str) -> TimedConfiguration | None:
    """What answered an eval on a target, against what was timed there; None where nothing answered."""
    answered: list[str] = []
    for unit in view.units.values():
        if isinstance(unit, EvalUnit) and (unit.target, unit.eval) == (target, eval_name):
            answered += [view.sample_starts[s.key] for s in unit.samples if s.key in view.sample_starts]
    timed = [d.start for d in view.done.values() if isinstance(d.unit, Timed) and d.unit.target == target]
    here, there = _configurations(view, answered), _configurations(view, timed)
    if not here:
        return None
    mine = {content_hash(each, 12): each for each in here}
    known = {content_hash(each, 12): each for each in there}
    first = next(iter(mine))
    if not known:
        return TimedConfiguration(status="nothing_timed", configuration=first)
    others = [each for name, each in mine.items() if name not in known]
    if not others:
        return TimedConfiguration(status="timed", configuration=first)
    return TimedConfiguration(
        status="another", configuration=content_hash(others[0], 12), differences=_differences(there[0], others[0])
    )


def _configurations(view: RunView, starts: list[str]) -> list[dict[str, JsonValue]]:
    return [configuration_of(view.engines[start]) for start in dict.fromkeys(starts) if start in view.engines]


def _differences(timed: dict[str, JsonValue], other: dict[str, JsonValue]) -> tuple[str, ...]:
    return tuple(
        f"{name}: {_word(timed[name])} timed, {_word(other[name])} here" for name in timed if timed[name] != other[name]
    )


def _word(value: JsonValue) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items()) or "none"
    return "not said" if value in (None, "") else str(value)


def _flags(argv: tuple[str, ...]) -> list[str]:
    """The command line without what is drawn anew at every start."""
    kept: list[str] = []
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word in _OWN_FLAGS:
            skip = True
        else:
            kept.append(word)
    return kept
