"""The accuracy evaluations by name. A new eval is one new file and one line here."""

from difflib import get_close_matches

from raybench.errors import ConfigError
from raybench.evals import aime25, canary, gpqa_diamond, sums
from raybench.evals.base import Eval

EVALS: dict[str, Eval] = {
    "sums": sums.EVAL,
    "aime25": aime25.EVAL,
    "gpqa_diamond": gpqa_diamond.EVAL,
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
