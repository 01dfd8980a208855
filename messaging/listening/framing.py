"""From a listener's columns to what its framing and its acknowledgement are."""

from typing import Any

from messaging.models import Listener

HEX = "hex:"
MAX_ACK = 64
VERBATIM = frozenset(("delimiter", "ack_text"))  # columns whose every character is sent or looked for


def framing_config(listener: Listener) -> dict[str, Any]:
    """Return the config of a listener's framing, as `make_framing` takes it."""
    found: dict[str, Any] = {}
    if listener.size is not None:
        found["size"] = listener.size
    if listener.delimiter:
        found["delimiter"] = listener.delimiter
    return found


def as_typed(text: str) -> str:
    """Return a delimiter or ack as somebody can see and type it in one line: in hexadecimal digits where need be."""
    return text if text.isprintable() and text == text.strip() else HEX + text.encode().hex()


def ack_bytes(text: str) -> bytes:
    """Return what is sent once a message is stored: a text, or `hex:` and hexadecimal digits; raises ValueError."""
    if text.startswith(HEX):
        try:
            found = bytes.fromhex(text.removeprefix(HEX))
        except ValueError as exc:
            raise ValueError("must have pairs of hexadecimal digits after 'hex:'") from exc
    else:
        found = text.encode()
    if not 1 <= len(found) <= MAX_ACK:
        raise ValueError(f"must have 1 to {MAX_ACK} bytes: a text, or hex: and hexadecimal digits, such as hex:06")
    return found
