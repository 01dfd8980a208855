"""How the example servers of packs are started: `--port`, and `--break` once for each thing that is to be broken."""

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

PORT = 8900


class Server(Protocol):
    """What an example server is: `broken` holds the names of its switches that are on."""

    port: int
    broken: set[str]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def serve(make: Callable[[int, Collection[str]], Server], switches: Mapping[str, str], name: str) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    told = "\n".join(f"  {switch}: {what}" for switch, what in switches.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{name}",
        description=f"A server to try the pack against. Switches:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--break", dest="broken", action="append", default=[], choices=list(switches), metavar="SWITCH")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(_serve(make(given.port, given.broken)))
        except OSError as exc:
            why = os.strerror(exc.errno) if exc.errno else str(exc)
            parser.exit(2, f"Cannot listen at port {given.port}: {why}. --port names another.\n")


async def _serve(server: Server) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await server.start()
    try:
        print(f"at 127.0.0.1:{server.port}, broken: {', '.join(sorted(server.broken)) or 'nothing'}", flush=True)
        await stopping.wait()
    finally:
        await server.stop()
