"""What commands take as options, beyond what `argparse` can read."""

from argparse import ArgumentTypeError


def seconds(text: str) -> float:
    """Return a length of time; raises ArgumentTypeError for a negative one or NaN, ValueError for what is no number."""
    found = float(text)
    if not found >= 0:  # nor NaN
        raise ArgumentTypeError(f"{text} is no length of time: use seconds, 0 or more")
    return found
