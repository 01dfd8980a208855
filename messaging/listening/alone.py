"""Running one server of ours until it is asked to stop: what the commands `listen_tcp` and `listen_udp` do."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from messaging.intake.counter import Intake
from messaging.intake.writer import Writer
from messaging.wakeups import DUE, Notifier


class Server(Protocol):
    async def aclose(self) -> None: ...


@asynccontextmanager
async def counter() -> AsyncIterator[Intake]:
    """Yield this process's way to store messages; what came in is stored when it ends."""
    writer = Writer(on_commit=Notifier(DUE).notify)
    writer.start()
    try:
        yield Intake(writer)
    finally:
        await asyncio.to_thread(writer.stop)


async def run_alone(open_server: Callable[[Intake], Awaitable[Server]]) -> None:
    """Serve until SIGTERM or SIGINT; raises OSError when the address cannot be had."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with counter() as intake:
        server = await open_server(intake)
        try:
            await stopping.wait()
        finally:
            await server.aclose()
