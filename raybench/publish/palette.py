"""Colours of what is compared: the same in figures and panels."""

COLORS = ("#4C78A8", "#F58518", "#54A24B", "#B279A2", "#E45756", "#72B7B2", "#9D755D", "#BAB0AC")


def color_of(number: int) -> str:
    """Colour of the arm with that place in the comparison."""
    return COLORS[number % len(COLORS)]
