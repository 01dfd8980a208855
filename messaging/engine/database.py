"""The engine's way to the database: calls that block, one after the other in a thread with a connection of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import connection

log = structlog.get_logger(__name__)
T = TypeVar("T")

RETRY_S = 1.0
HURRY_S = 1.0


def hurry() -> None:
    """Let the whole process wait only a moment for the database from now on: one that stops has little time."""
    if pool := getattr(connection, "pool", None):
        pool.timeout = pool.reconnect_timeout = HURRY_S  # each call that asks connects anew, instead of ever later
    else:
        connection.settings_dict["OPTIONS"]["timeout"] = HURRY_S


class Database:
    """One connection; open for as long as there are calls."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._answers = True

    def answers(self) -> bool:
        """Say whether the last call got through to the database."""
        return self._answers

    async def call(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        """Run a call; return None when the database failed, after dropping its connection."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, _call, call, arguments, options)
            self._answers = True
            return result
        except DatabaseError as exc:
            self._answers = False
            log.warning("database_failed", call=call.__name__, error=str(exc))
            await asyncio.sleep(RETRY_S)
            return None

    async def close(self) -> None:
        """Give the connection back and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: connection.close())
        self._thread.shutdown()


def _call(call: Callable[..., T], arguments: tuple[Any, ...], options: dict[str, Any]) -> T:
    try:
        return call(*arguments, **options)
    except DatabaseError:
        connection.close()
        raise
