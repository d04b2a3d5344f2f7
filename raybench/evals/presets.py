"""Sampling settings by name, as the maker of the Qwen3 models publishes them, for all evals. Pure.

Two are offered because the maker does not say which gave the published scores: `card` is what the model card
recommends, `report` what the technical report describes (a presence penalty and longer replies).
"""

from collections.abc import Mapping

from raybench.config.evals import Preset
from raybench.records import Sampling

_CARD = Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0, presence_penalty=0.0, max_tokens=16_384)


def presets(report_max_tokens: int, repeats: int = 1) -> Mapping[str, Preset]:
    """The presets of an eval: where the technical report cut its replies, and how often its questions are asked."""
    report = _CARD.model_copy(update={"presence_penalty": 1.5, "max_tokens": report_max_tokens})
    return {"card": Preset(sampling=_CARD, repeats=repeats), "report": Preset(sampling=report, repeats=repeats)}


CUSTOM_PRESETS = presets(report_max_tokens=32_768)
"""Presets of evals that a configuration describes itself."""
