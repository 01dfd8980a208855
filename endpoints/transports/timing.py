"""How long the parts of a send took, as it is kept."""


def in_ms(seconds: float) -> float:
    """Return milliseconds to two places: in half the time of round(), four times a send."""
    return int(seconds * 100_000 + 0.5) / 100
