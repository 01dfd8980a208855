"""Names that promise a secret, and what may be shown of variables that have one."""

import re
from collections.abc import Mapping
from typing import Any

NAMES = re.compile(
    r"passw|passphrase|pwd\b|secret|token|api[-_ ]?key|authori[sz]ation|cookie|credential|private[-_ ]?key"
    r"|signature|session|^auth$|x-auth|\bpin\b|cvv|cvc|card[-_ ]?number",
    re.IGNORECASE,
)
MASK = "***"


def shown(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as they may be shown: those under such a name masked."""
    return {name: MASK if _is_secret(name, value) else value for name, value in given.items()}


def secret_texts(given: Mapping[str, Any]) -> set[str]:
    """Return every value under such a name, as text."""
    return {str(value) for name, value in given.items() if _is_secret(name, value)}


def _is_secret(name: str, value: Any) -> bool:
    return value not in (None, "") and not isinstance(value, bool) and bool(NAMES.search(name))
