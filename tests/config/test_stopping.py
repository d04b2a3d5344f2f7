"""Rules that end an eval early, as configured."""

import pytest
from pydantic import ValidationError

from raybench.config.evals import EvalConfig

BASE = {
    "name": "aime25",
    "sampling": {"temperature": 0.7, "max_tokens": 16384},
    "repeats": 16,
    "baseline": 0.7,
    "gate": "published",
}


def test_a_plan_in_stages() -> None:
    settings = EvalConfig.model_validate(BASE | {"adaptive": {"stages": [4, 8, 16]}})
    assert settings.adaptive is not None and settings.adaptive.stages == (4, 8, 16)
    assert settings.stop_rules.truncated == 0.10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adaptive": {"stages": [4, 8]}}, "must end at repeats"),
        ({"adaptive": {"stages": [1, 16]}}, "begin at 2 or more"),
        ({"adaptive": {"stages": [8, 8, 16]}}, "must grow"),
        ({"adaptive": {"stages": [16]}}, "at least 2 items"),
        ({"adaptive": {"stages": [8, 16]}, "gate": None}, "adaptive needs a gate"),
        ({"stop_rules": {"truncated": 0}}, "greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EvalConfig.model_validate(BASE | changes)
