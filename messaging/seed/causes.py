"""What made-up dead letters died of: some causes for each error class, each with a text that varies."""

from collections.abc import Iterator
from datetime import datetime
from itertools import product

from messaging.models import DeadGroup
from messaging.seed.statements import Party
from messaging.signature import digest, signature

CLASSES = ("timeout", "server_error", "client_error", "lost", "blocked_address")
SYLLABLES = tuple(a + b for a, b in product("bdfgklmnprstvz", "aeiou"))

Cause = tuple[str, int, str, str]  # error class, number, how its texts begin, the digest of their signature


def causes(count: int) -> list[Cause]:
    """Return `count` causes of each error class."""
    return [(name, number, text, digest(_signed(text))) for name in CLASSES for number, text in _texts(name, count)]


def make_groups(made: list[Cause], parties: list[Party], now: datetime) -> None:
    """Make the group of every cause in every system, unless there is one."""
    DeadGroup.objects.bulk_create(
        (
            DeadGroup(
                system_id=id,
                interface="main",
                error_class=name,
                signature=_signed(text),
                digest=key,
                first_at=now,
                last_at=now,
            )
            for id, _, _ in parties
            for name, _, text, key in made
        ),
        batch_size=1000,
        ignore_conflicts=True,
    )


def _texts(name: str, count: int) -> Iterator[tuple[int, str]]:
    for number in range(count):
        first, second = divmod(number, len(SYLLABLES))
        step = SYLLABLES[first % len(SYLLABLES)] + SYLLABLES[second]
        yield number, f"made up: {name} in step {step}"


def _signed(text: str) -> str:
    """Return the signature of every text that begins so; see the column `error` in the statements."""
    return signature(f"{text} of order 4711 after 12 ms")
