"""One quantity over repeats."""

from pydantic import Field

from raybench.records import Record


class Spread(Record):
    """One quantity over the repeats of a load point."""

    median: float
    """Middle value: what tables show."""
    min: float
    """Smallest value."""
    max: float
    """Largest value."""
    num: int = Field(ge=1)
    """Repeats that it comes from."""
