"""TLS handshakes: a half-made one counts as the connection that it is, and is broken off when it takes too long."""

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import structlog

from messaging.listening.connection import Connection

if TYPE_CHECKING:
    from messaging.listening.tcp import TcpServer

AGAIN_S = 1.0  # when no more files may be open

log = structlog.get_logger(__name__)


class Handshakes:
    """Takes what comes to one socket; who has shaken hands is a connection of `server` like any other."""

    def __init__(self, server: "TcpServer", listener: socket.socket, context: ssl.SSLContext) -> None:
        self._server, self._listener, self._context = server, listener, context
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking = server.loop.create_task(self._take(), name="tls-accept")

    async def aclose(self) -> None:
        """Take nothing more, and break off what is half made."""
        tasks = [self._taking, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _take(self) -> None:
        while True:
            try:
                taken, peer = await self._server.loop.sock_accept(self._listener)
            except ConnectionError:  # gone before we came to it
                continue
            except OSError as exc:
                log.warning("tls_accept_failed", listener=self._server.tally.name, error=str(exc))
                await asyncio.sleep(AGAIN_S)
                continue
            self._begin(taken, str(peer[0]))

    def _begin(self, taken: socket.socket, address: str) -> None:
        if refusal := self._server.no_room(address):
            self._server.tally.refuse(address, refusal.code, refusal.detail)
            taken.close()
            return
        connection = self._server.expect(address)
        task = self._server.loop.create_task(self._shake(taken, connection, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake(self, taken: socket.socket, connection: Connection, address: str) -> None:
        limit_s = self._server.limits.auth_s
        try:
            await self._server.loop.connect_accepted_socket(
                lambda: connection, taken, ssl=self._context, ssl_handshake_timeout=limit_s
            )
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError; a name that is none is a ValueError
            told = f"no TLS handshake within {limit_s:g} s, or a bad one: {exc or type(exc).__name__}"
            self._server.tally.refuse(address, "tls", told)
        finally:
            self._server.expect_no_more(connection)
