"""Values as a person may be shown them: nothing invisible in them, and no longer than can be read.

Names and bodies come from other systems. Escaping is the template's; what it cannot
help against is made visible here: control characters, and those that turn the
direction of the text around so that it reads as something else.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
LONGEST = 6000


def visible(value: Any) -> Any:
    """Return a value with what cannot be seen in its texts written out, such as `\\u202e`."""
    if isinstance(value, str):
        return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value.replace("\r\n", "\n"))
    if isinstance(value, Mapping):
        return {visible(str(key)): visible(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible(child) for child in value]
    return value


def pretty(value: Any) -> str:
    """Return a value as text: a text that is JSON is laid out, and what is long is cut and says so."""
    text = value if isinstance(value, str) else _laid_out(value)
    if isinstance(value, str) and value[:1] in "{[":
        try:
            text = _laid_out(json.loads(value))
        except (ValueError, RecursionError):
            text = value
    text = visible(text)  # JSON had them escaped until now
    left = len(text) - LONGEST
    return f"{text[:LONGEST]}\n... {left} more characters" if left > 0 else text


def literal(value: Any) -> str:
    """Return a value as it would be written down: a text keeps its quotes, so that "1" is not 1."""
    return pretty(json.dumps(value, ensure_ascii=False) if isinstance(value, str) else value)


def _laid_out(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def span(ms: float | None) -> str:
    """Return how long something took, in the unit that a person would use."""
    if ms is None:
        return "-"
    if ms < 1:
        return "< 1 ms" if ms > 0 else "0 ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.2f} s" if ms < 10_000 else f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def moment(text: str | None) -> str:
    """Return a time as people read it."""
    return datetime.fromisoformat(text).strftime("%d %b %Y, %H:%M:%S UTC") if text else "-"


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
