"""Ids of everything we make: UUIDv7, so that an index on them grows at its right end (RFC 9562, section 5.7)."""

import uuid
from datetime import datetime

import uuid_utils

RANDOM_BITS = 80  # below the time, version and variant among them


def new_id() -> uuid.UUID:
    """Return a fresh UUIDv7 as the standard library's type."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def new_name() -> str:
    """Return a fresh UUIDv7 as text; a tenth of the cost of making the object first."""
    return str(uuid_utils.uuid7())


def new_key() -> str:
    """Return a fresh UUIDv7 as 32 hex digits, which every database takes for the id of a row."""
    return uuid_utils.uuid7().hex


def id_at(moment: datetime) -> uuid.UUID:
    """Return a fresh UUIDv7 that carries `moment`, in milliseconds, so that a span of time is a span of ids."""
    return uuid.UUID(int=_time_bits(moment) | new_id().int & (1 << RANDOM_BITS) - 1)


def first_id_at(moment: datetime) -> uuid.UUID:
    """Return what no id that carries `moment` or a later time is below."""
    return uuid.UUID(int=_time_bits(moment))


def _time_bits(moment: datetime) -> int:
    return max(0, int(moment.timestamp() * 1000)) << RANDOM_BITS
