"""How the work on a run, or on a share of one, comes to its end: what watched it stops last, its verdict is written."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from django.db import Error as DatabaseError

from testing.errors import Unwritten
from testing.runner.holding import Hold
from testing.runner.results import RunResult
from testing.runner.underway import forget

TRIES, AGAIN_S = 10, 1.0

log = structlog.get_logger(__name__)


async def end(ask: Callable[..., Awaitable[Any]], hold: Hold, result: RunResult) -> bool:
    """Write the verdict; False when the lease was lost, or the answer that it was not.

    A database that is away is waited for, for a while; raises Unwritten.
    """
    ended = False
    for left in reversed(range(TRIES)):
        try:
            ended |= bool(await ask(hold.end, result))
            await ask(forget, hold.run_id, hold.token)
        except DatabaseError as exc:
            if not left:
                raise Unwritten("the database did not take the verdict") from exc
            log.warning("verdict_waits_for_database", run=str(hold.run_id), error=str(exc))
            await asyncio.sleep(AGAIN_S)
        else:
            break
    return ended


async def cancelled(task: "asyncio.Future[Any]") -> None:
    """End a task of ours and wait until it has."""
    task.cancel()
    await asyncio.wait({task})
