"""A UDP socket as a conversation: datagrams are said to one peer, and heard from nobody else."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.conversation import Conversation, Heard, Inbox
from endpoints.transports.failures import HungUp, translate

MAX_DATAGRAM = 65_507  # what IPv4 leaves of 65,535 bytes (RFC 768, RFC 791)


class DatagramConversation(Conversation):
    """That nobody is there can be heard only where the peer's host says so (ICMP)."""

    def __init__(self, made: socket.socket, request: Mapping[str, Any]) -> None:
        self.inbox, self.request = Inbox(), request
        self._socket = made
        self._reading = asyncio.ensure_future(self._read())

    async def say(self, data: bytes, *, is_text: bool = True) -> None:
        self._require_open()
        if len(data) > MAX_DATAGRAM:
            detail = f"{len(data)} bytes do not fit into a datagram of {MAX_DATAGRAM}"
            raise TransportError(detail, error_class=ErrorClass.TRANSFORM)
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as exc:
            self.inbox.end(translate(exc))
            self._require_open()

    async def aclose(self) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        self._socket.close()
        self.inbox.end(translate(HungUp()))

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while self.inbox.fault is None:
            try:
                self.inbox.put(Heard(await loop.sock_recv(self._socket, 65_535)))
            except OSError as exc:
                self.inbox.end(translate(exc))
