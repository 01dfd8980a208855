"""Numbers as the protocols write them: Python itself would take `1_0`, ` 7 `, `nan` and the digits of every script."""

import re

_DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?")


def decimal(text: str) -> float:
    """Return a number of 0 or more that was written in ASCII digits; raises ValueError for any other text."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError("must be a number in plain digits, such as 90 or 1.5")
    return float(text)
