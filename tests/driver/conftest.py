"""What the tests of the driver share."""

from collections.abc import Iterator

import pytest

from raybench.driver.store import Mirror


@pytest.fixture(autouse=True)
def none_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A killed driver's mirror is one that is never closed; its thread would wake in the middle of another test."""
    made: list[Mirror] = []
    start = Mirror.__init__

    def noted(self: Mirror, *args: object, **options: object) -> None:
        start(self, *args, **options)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Mirror, "__init__", noted)
    yield
    for each in made:
        each.stop()
