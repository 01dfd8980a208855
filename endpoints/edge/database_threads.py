"""Threads in which our doors ask the database while their event loops go on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


class DatabaseThreads:
    """A few threads of a name; each has a connection of its own while it asks."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)

    def submit(self, call: Callable[..., T], *arguments: object) -> "Future[T]":
        """Begin a call, from any thread."""
        return self._pool.submit(_then_give_back, call, arguments)

    def run(self, call: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        """Begin a call from an event loop; the future raises what it raises."""
        return asyncio.get_running_loop().run_in_executor(self._pool, _then_give_back, call, arguments)

    def shutdown(self) -> None:
        """Wait for what was begun, and begin nothing more."""
        self._pool.shutdown()


def give_back() -> None:
    """Let go of this thread's connection, now that it has nothing more to ask for a while.

    PostgreSQL's goes back to the pool, which would lose it for good. SQLite has no pool,
    and opening its file costs ten times what most questions do: that one is kept, unless
    something went wrong with it.
    """
    if connection.vendor != "sqlite" or connection.errors_occurred:
        connection.close()


def _then_give_back(call: Callable[..., T], arguments: tuple[object, ...]) -> T:
    try:
        return call(*arguments)
    finally:
        give_back()
