"""Ends that no breaker is to judge and nothing waits for: written down in one statement, where the database can.

Most are such: delivered, to nobody who asked for the answer, with no ordering key. A transaction of several
statements costs both sides as much again as its work, and many batches are of a few.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from messaging import store
from messaging.engine import judging
from messaging.engine.counting import events
from messaging.engine.judging import FAILED, Tally
from messaging.models import State

if TYPE_CHECKING:
    from messaging.engine.record import Ended

GATHER_S = 0.005
ENOUGH = 64  # ends in a statement: more save little

log = structlog.get_logger(__name__)


def can(ended: Sequence["Ended"], dirty: Collection[UUID]) -> bool:
    """Say whether these ends are all of that kind; `dirty` are the endpoints with something against them."""
    if not ended or not store.is_postgresql():
        return False
    one_each = len({item.finish.id for item in ended}) == len(ended)
    return one_each and all(_is_plain(item) and item.finish.endpoint_id not in dirty for item in ended)


def _is_plain(item: "Ended") -> bool:
    is_awaited = item.response or item.trial or item.gone or item.finish.line
    return not is_awaited and item.finish.state != State.DEAD and judging.outcome(item) not in FAILED


async def gather(ended: Sequence["Ended"]) -> None:
    """Wait a moment for others to end, if these are few and nobody waits for an answer or for the next of a key."""
    if len(ended) < ENOUGH and not any(item.response or item.finish.line for item in ended):
        await asyncio.sleep(GATHER_S)


def write(ended: Sequence["Ended"], tally: Tally) -> None:
    """End what is still ours, with attempts and counts."""
    finishes = [item.finish for item in ended]
    counted = [(finish.id, finish.system_id, *event) for finish in finishes for event in events(finish)]
    ours, now = store.finish_and_count(finishes, counted)
    if len(ours) < len(ended):
        log.warning("stale_finishes_refused", count=len(ended) - len(ours))
    if now is not None:
        judging.settle([item for item in ended if item.finish.id in ours], (), tally, now)
