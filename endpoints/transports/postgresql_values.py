"""What PostgreSQL says, as JSON can say it: rows with typed values, and errors in the words of the outcome table."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.sessions import Refusal

LARGEST = 2**63 - 1
LONGEST = 500
# By the beginning of an SQLSTATE (PostgreSQL, appendix A); the first that fits, so the special before the general.
STATES: tuple[tuple[str, ErrorClass], ...] = (
    ("28", ErrorClass.AUTH),
    ("42501", ErrorClass.AUTH),  # insufficient privilege
    ("57014", ErrorClass.TIMEOUT),  # cancelled, by the statement timeout
    ("55P03", ErrorClass.TIMEOUT),  # a lock was not to be had in time
    ("57P", ErrorClass.CONNECT),  # shut down, or starting up
    ("08", ErrorClass.CONNECT),
    ("53300", ErrorClass.THROTTLED),  # too many connections
    ("40", ErrorClass.SERVER_ERROR),  # serialization failure, deadlock
    ("53", ErrorClass.SERVER_ERROR),
    ("58", ErrorClass.SERVER_ERROR),
    ("F0", ErrorClass.SERVER_ERROR),
    ("XX", ErrorClass.SERVER_ERROR),
    ("", ErrorClass.CLIENT_ERROR),
)
# A refused connection has no SQLSTATE in libpq, only words.
WORDS: tuple[tuple[str, ErrorClass], ...] = (
    ("too many clients", ErrorClass.THROTTLED),
    ("too many connections", ErrorClass.THROTTLED),
    ("remaining connection slots", ErrorClass.THROTTLED),
    ("authentication", ErrorClass.AUTH),
    ("no password supplied", ErrorClass.AUTH),
    ("pg_hba.conf", ErrorClass.AUTH),
    ("does not exist", ErrorClass.AUTH),  # a role or database; which of the two a server tells is its affair
    ("certificate", ErrorClass.TLS),
    ("SSL", ErrorClass.TLS),
    ("timeout", ErrorClass.TIMEOUT),
    ("", ErrorClass.CONNECT),
)


def plain_row(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return a row as an object; of two columns with one name the second is `name_2`."""
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        key, number = name, 1
        while key in found:
            number += 1
            key = f"{name}_{number}"
        found[key] = plain(value)
    return found


def plain(value: Any) -> Any:
    """Return a value of a column in JSON's types: times in ISO 8601, bytes as hex, what has none as its text."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else str(value)
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, (list, tuple)) else str(value)


def _number(value: Decimal) -> int | float | str:
    """Return a numeric as a number where that loses nothing, else as its digits."""
    if not value.is_finite():
        return math.nan if value.is_nan() else str(value)
    if value == value.to_integral_value() and abs(value) <= LARGEST:
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def refused(exc: psycopg.Error) -> TransportError:
    """Return what an error of a statement means."""
    state = exc.sqlstate or ""
    said = (exc.diag.message_primary if state else "") or str(exc)
    if not state:
        # Nothing of the server's: the line broke, or a value cannot be had in this language.
        if isinstance(exc, psycopg.OperationalError):
            return TransportError(_cut(said), error_class=ErrorClass.CONNECT)
        return Refusal(_cut(said), error_class=ErrorClass.CLIENT_ERROR, code="")
    error_class = next(found for prefix, found in STATES if state.startswith(prefix))
    detail = _cut(f"{state}: {said}")
    if error_class == ErrorClass.CONNECT:
        return TransportError(detail, error_class=error_class)
    return Refusal(detail, error_class=error_class, code=state)


def not_connected(exc: psycopg.Error, where: str) -> TransportError:
    """Return what it means that no connection could be made."""
    said = str(exc)
    error_class = next(found for words, found in WORDS if words in said)
    told = said.rsplit("failed: ", 1)[-1].removeprefix("FATAL: ").removeprefix("ERROR: ")
    return TransportError(_cut(f"{where}: {told.strip()}"), error_class=error_class)


def _cut(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
