"""What receivers may say: the query of an inbox, the body of an ack or a nack, each field in one table. Pure."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from endpoints.edge import strict_json
from endpoints.edge.numerals import decimal
from endpoints.errors import Malformed
from messaging.intake.fields import check_content_type
from messaging.pulling.ending import Word

INTERFACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_WAIT_S = 60.0
MAX_RESULTS = 1000
MAX_REASON = 500
Check = Callable[[Any], Any]


def _interface(text: str) -> str:
    _must(INTERFACE.fullmatch(text) is not None, "must be the name of an interface")
    return text


def _most(text: str) -> int:
    _must(text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_RESULTS, "must be 1 to 1000")
    return int(text)


def _wait(text: str) -> float:
    try:
        wait_s = decimal(text)
    except ValueError:
        wait_s = -1.0
    _must(0 <= wait_s <= MAX_WAIT_S, f"must be seconds between 0 and {MAX_WAIT_S:g}")
    return wait_s


QUERY: Mapping[str, Callable[[str], Any]] = {"interface": _interface, "max": _most, "wait": _wait}
DEFAULTS: Mapping[str, Any] = {"interface": "main", "max": 10, "wait": 0.0}


def read_query(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return `interface`, `max` and `wait`; raises Malformed naming what is unknown or wrong."""
    asked = dict(DEFAULTS)
    for name, text in pairs:
        check = QUERY.get(name)
        if check is None:
            known = ", ".join(QUERY)
            raise Malformed(f"'{name[:50]}' is not a parameter of this path; known: {known}", code="unknown_parameter")
        asked[name] = _checked(name, text, check)
    return asked


def _attempt(value: Any) -> int:
    _must(isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 31, "must be a number from 1 up")
    return int(value)


def _reason(value: Any) -> str:
    _must(isinstance(value, str) and len(value) <= MAX_REASON, f"must be a text of at most {MAX_REASON} characters")
    return str(value)


def _seconds(value: Any) -> float:
    try:
        seconds = -1.0 if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    _must(0 <= seconds <= 30 * 24 * 3600, "must be seconds from 0 up")
    return seconds


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as exc:
        raise ValueError("must be base64") from exc


ACK: Mapping[str, tuple[str, Check]] = {
    "attempt": ("attempt", _attempt),
    "payload": ("reply", strict_json.dumps),
    "payload_base64": ("reply", _bytes),
    "content_type": ("content_type", check_content_type),
}
NACK: Mapping[str, tuple[str, Check]] = {
    "attempt": ("attempt", _attempt),
    "reason": ("reason", _reason),
    "retry_after_s": ("retry_after_s", _seconds),
}


def read_word(word: Word, given: Any) -> Word:
    """Return the word with what its body says; raises Malformed naming the field at fault."""
    fields = ACK if word.is_ack else NACK
    if not isinstance(given, dict):
        raise Malformed("the body must be a JSON object, or empty")
    if unknown := sorted(given.keys() - fields.keys()):
        raise _fault(unknown[0][:50], "unknown", f"there is no such field; known: {', '.join(fields)}")
    if "payload" in given and given.get("payload_base64") is not None:
        raise _fault("payload", "invalid", "give payload or payload_base64, not both")
    said: dict[str, Any] = {}
    for name, value in given.items():
        if value is not None or name == "payload":  # of a payload null is a value
            field, check = fields[name]
            said[field] = _checked(name, value, check)
    if "payload_base64" in given and "content_type" not in said:
        said["content_type"] = "application/octet-stream"
    return replace(word, **said)


def _checked(name: str, value: Any, check: Check) -> Any:
    try:
        return check(value)
    except ValueError as exc:
        raise _fault(name, "invalid", str(exc)) from exc


def _fault(field: str, code: str, detail: str) -> Malformed:
    return Malformed(f"{field}: {detail}", code="invalid", errors=[{"field": field, "code": code, "detail": detail}])


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
