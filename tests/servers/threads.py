"""What serves in a thread with a loop of its own, beside the test that asks it."""

import asyncio
import threading
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self

PATIENCE_S = 30


class Listening(Protocol):
    """A server of asyncio's, or one made of it."""

    @property
    def sockets(self) -> Iterable[Any]: ...

    def close(self) -> None: ...


class InThread:
    """A server to be; use as a context manager, or `start` and `stop`."""

    def _serving(self) -> AbstractAsyncContextManager[None]:
        """Serve within: there it listens, behind it all is cut."""
        raise NotImplementedError

    def start(self) -> Self:
        """Serve until `stop`; the port stays the same over restarts."""
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),), daemon=True)
        self._thread.start()
        if not started.wait(PATIENCE_S):
            raise TimeoutError(f"{type(self).__name__} did not start")
        return self

    def stop(self) -> None:
        """Stop listening and cut every connection; safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(PATIENCE_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with self._serving():
            started.set()
            await self._stopping.wait()


async def stop_listening(server: Listening) -> None:
    """Close what listens, once whoever was let in is in: asyncio drops, open, whom it meets behind a closed door."""
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(3):
        await asyncio.sleep(0)
    server.close()
