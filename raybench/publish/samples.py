"""How much of an eval's samples may be shown. Pure.

`share_samples: full` shows ids, gold answers and replies, and replies quote questions. That is for exams that anybody
may read and that raybench knows by name. Whose rows a custom eval holds, only its owner knows, and no check of names or
columns would find GPQA in a file called science.jsonl: of a custom eval nothing but hashes ever leaves.
"""

from raybench.config.evals import EvalConfig
from raybench.config.publish import ShareSamples
from raybench.evals import EVALS
from raybench.evals.base import HubSource
from raybench.records import content_hash

GUARDED = "gpqa"
"""Its authors ask that its questions never be shown, from whatever copy they come."""


def sharing(settings: EvalConfig | None, share: ShareSamples) -> ShareSamples:
    """What may be shown of this eval, at most `share`. None = an eval that the configuration does not hold."""
    return share if share != "full" or _open(settings) else "hashed"


def _open(settings: EvalConfig | None) -> bool:
    if settings is None or settings.custom is not None:
        return False
    known = EVALS.get(settings.name.replace("-", "_"))
    gated = known is None or (isinstance(known.default_rows, HubSource) and known.default_rows.gated)
    return not gated and GUARDED not in f"{settings.name} {settings.rows}".lower()


def settings_named(evals: tuple[EvalConfig, ...], name: str) -> EvalConfig | None:
    """An eval's settings by its name."""
    return next((each for each in evals if each.name == name), None)


def text_hash(text: str | None) -> str | None:
    """Hash that stands for a text: equal texts have equal ones."""
    return None if text is None else content_hash(text)
