"""The accuracy evaluations by name. A new eval is one new file and one line here."""

from collections.abc import Mapping
from difflib import get_close_matches

from raybench.config.evals import EvalConfig, Preset
from raybench.errors import ConfigError
from raybench.evals import aime25, canary, gpqa_diamond, gsm8k, math500, mmlu_pro, sums
from raybench.evals.base import Eval
from raybench.evals.custom import custom_eval
from raybench.evals.presets import CUSTOM_PRESETS

EVALS: dict[str, Eval] = {
    "sums": sums.EVAL,
    "aime25": aime25.EVAL,
    "gpqa_diamond": gpqa_diamond.EVAL,
    "math500": math500.EVAL,
    "gsm8k": gsm8k.EVAL,
    "mmlu_pro": mmlu_pro.EVAL,
    "canary": canary.EVAL,
}


def eval_named(name: str) -> Eval:
    """The eval of that name; dashes and underscores are alike. Raises ConfigError that names the nearest valid one."""
    found = EVALS.get(name.replace("-", "_"))
    if found is None:
        near = get_close_matches(name.replace("-", "_"), EVALS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"there is no eval named {name!r}; {hint}valid names: {', '.join(EVALS)}")
    return found


def eval_of(settings: EvalConfig) -> Eval:
    """The eval that a configuration names or describes. Raises ConfigError when there is none, or two."""
    if settings.custom is None:
        return eval_named(settings.name)
    if settings.name.replace("-", "_") in EVALS:
        raise ConfigError(f"evals: {settings.name!r} is a built-in eval; give the custom one another name")
    return custom_eval(settings.name, settings.custom)


def presets_of(name: str, custom: bool) -> Mapping[str, Preset]:
    """Presets of an eval by name: what `raybench.config.read.load` lays under a configuration. Raises ConfigError."""
    return CUSTOM_PRESETS if custom else eval_named(name).presets
