"""The fields of an envelope: one check each, which returns the value as kept or raises ValueError with what to do."""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from messaging.models import MessageType, Priority

PRIORITIES = {priority.name.lower(): priority.value for priority in Priority}
PRIORITY_NAMES = {value: name for name, value in PRIORITIES.items()}
MAX_TTL_S = 366 * 86_400
MAX_HEADERS_BYTES = 8 * 1024
BROADCAST = "*"

_TARGET = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, section 5.1
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+*-]+(?:\s*;[\x20-\x7e]*)?")


def is_media_type(text: str) -> bool:
    """Say whether `text` can stand in a Content-Type field (RFC 9110, section 8.3.1)."""
    return len(text) <= 200 and _MEDIA_TYPE.fullmatch(text) is not None


def _text(limit: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        if len(value) > limit:
            raise ValueError(f"must have at most {limit} characters")
        if not value.isprintable():
            raise ValueError("must not hold control characters")
        return value

    return check


def _message_id(value: Any) -> str:
    text = _text(128)(value)
    if not text.strip() or "/" in text or text in (".", ".."):  # it stands in the path of a URL
        raise ValueError("must have 1 to 128 printable characters, none of them a slash, and not be . or ..")
    return text


def check_target(value: Any) -> str:
    if not isinstance(value, str) or not _TARGET.fullmatch(value):
        raise ValueError('must be "system", "system/interface", a list of them, or "*"')
    return value


def _targets(value: Any) -> list[str]:
    if value == BROADCAST:
        return [BROADCAST]
    if isinstance(value, list):
        if not 1 <= len(value) <= 100:
            raise ValueError("a list must name 1 to 100 targets")
        return list(dict.fromkeys(check_target(item) for item in value))
    return [check_target(value)]


def _choice(choices: Mapping[str, Any]) -> Callable[[Any], Any]:
    known = ", ".join(choices)

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"must be one of {known}")
        return choices[value]

    return check


def _time(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise ValueError("must be an RFC 3339 time such as 2026-01-02T03:04:05Z") from exc
    if found.tzinfo is None:
        raise ValueError("must name its offset, such as 2026-01-02T03:04:05Z")
    try:
        return found.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("is outside of the years 1 to 9999") from exc


def _number(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, (bool, str)) or value is None or isinstance(value, (dict, list)):
            raise ValueError("must be a number")
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(f"must be between {low:g} and {high:g}")
        return number

    return check


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number between {low} and {high}")
        return value

    return check


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 100:
        raise ValueError("must be an object of at most 100 texts")
    size = 0
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"'{name[:100]}' is not a header name")
        if not isinstance(text, str) or not text.isprintable():
            raise ValueError(f"'{name}' must be text without control characters")
        size += len(name) + len(text)
    if size > MAX_HEADERS_BYTES:
        raise ValueError(f"must have at most {MAX_HEADERS_BYTES} characters in all")
    return value


def _search_keys(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 20:
        raise ValueError("must be an object of at most 20 keys")
    kept = {}
    for name, item in value.items():
        if isinstance(item, bool) or not isinstance(item, (str, int)) or not str(item).isprintable():
            raise ValueError(f"'{name[:50]}' must be text or a whole number")
        if not 1 <= len(name) <= 50 or not name.isprintable() or not 1 <= len(str(item)) <= 200:
            raise ValueError("names have 1 to 50 characters, values 1 to 200")
        kept[name] = str(item)
    return kept


def check_content_type(value: Any) -> str:
    if not isinstance(value, str) or not is_media_type(value):
        raise ValueError("must be a media type such as application/json, of at most 200 characters")
    return value


def _base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("must be base64 (RFC 4648, section 4)") from exc


CHECKS: dict[str, Callable[[Any], Any]] = {
    "message_id": _message_id,
    "source_system": check_target,
    "target_system": _targets,
    "message_type": _choice({choice: choice for choice in MessageType.values}),
    "event_type": _text(200),
    "priority": _choice(PRIORITIES),
    "timestamp": _time,
    "payload_base64": _base64,
    "content_type": check_content_type,
    "headers": _headers,
    "correlation_id": _text(200),
    "reply_to": check_target,
    "ordering_key": _text(200),
    "recipient": _text(200),
    "search_keys": _search_keys,
    "ttl": _number(0.001, MAX_TTL_S),
    "deliver_at": _time,
    "max_retries": _integer(0, 99),
    "idempotency_key": _text(200),
}
