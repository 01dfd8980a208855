"""Whose inbox is whose: who may fetch and acknowledge, and by what a lease is known as theirs."""

import hashlib
import uuid
from datetime import UTC, datetime

from endpoints.access.principal import Principal
from endpoints.errors import Forbidden, NotFound
from endpoints.ids import RANDOM_BITS, id_at

CALLER_BITS = 32


def require_receiver(by: Principal, system_id: int, owner_id: int | None) -> None:
    """Raise NotFound or Forbidden unless the caller may take what is meant for this system.

    A key bound to the system may, whatever its role: being given its own messages is
    what it is for. So may an operator of the team; a key that speaks as another
    system is no operator, and a user of a system is not the system.
    """
    if by.recipient:
        raise Forbidden("an inbox is its system's; this token speaks for one of its users")
    if by.system_id is not None:
        if by.system_id != system_id:
            raise NotFound("there is no such inbox")
        return
    if not by.sees_team(owner_id):
        raise NotFound("there is no such inbox")
    if not by.may("operator"):
        raise Forbidden("this takes a key bound to the system, or the role 'operator'")


def new_lease(by: Principal, now: datetime) -> uuid.UUID:
    """Return the token of a lease: when it began and whose it is can be read from it."""
    return uuid.UUID(int=(id_at(now).int >> CALLER_BITS << CALLER_BITS) | _caller(by))


def is_lease_of(token: uuid.UUID, by: Principal) -> bool:
    return token.int & ((1 << CALLER_BITS) - 1) == _caller(by)


def began_at(token: uuid.UUID) -> datetime:
    return datetime.fromtimestamp((token.int >> RANDOM_BITS) / 1000, UTC)


def _caller(by: Principal) -> int:
    name = (by.key_id or by.label).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=CALLER_BITS // 8).digest(), "big")
