"""What commands take as options, beyond what `argparse` can read, and how they say that a file cannot be read."""

from argparse import ArgumentTypeError
from collections.abc import Callable

MAX_PORT = 65_535


def seconds(text: str) -> float:
    """Return a length of time; raises ArgumentTypeError for a negative one or NaN, ValueError for what is no number."""
    found = float(text)
    if not found >= 0:  # nor NaN
        raise ArgumentTypeError(f"{text} is no length of time: use seconds, 0 or more")
    return found


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number within these bounds; it raises ArgumentTypeError for any other text."""
    bounds = f"{least} or more" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least or (most is not None and found > most):
            raise ArgumentTypeError(f"{text!r} is not what it may be: use a whole number, {bounds}")
        return found

    return read


port = whole(0, MAX_PORT)


def unread(exc: Exception) -> str:
    """Return why a file could not be read, without the words of a traceback."""
    if isinstance(exc, UnicodeDecodeError):
        return f"it is no UTF-8 text (byte {exc.start + 1})"
    return getattr(exc, "strerror", None) or str(exc)
