"""The conformance suite of the control plane over this transport, and what is its own. Run: `pytest`."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from serial_link import ACK, ENQ, NAK, STX, Decoder, encode

from endpoints.transports.base import Address, ErrorClass, TransportError
from endpoints.transports.conformance import Peer, TransportSuite, address, opened, outgoing


class Device:
    """A device on loopback, in a thread of its own; it answers every frame alike."""

    def __init__(self, port: int = 0) -> None:
        self.payloads: list[bytes] = []
        self.answer: bytes | None = ACK
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        self._arrived = threading.Event()
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self) -> bool:
        """Wait until the first message is there."""
        return self._arrived.wait(10)

    def _listen(self) -> None:
        while True:
            try:
                line = self._server.accept()[0]
            except OSError:
                return
            self._lines.append(line)
            threading.Thread(target=self._converse, args=(line,), daemon=True).start()

    def _converse(self, line: socket.socket) -> None:
        decoder = Decoder(2**30)
        with line:
            while received := _received(line):
                for byte in (bytes([value]) for value in received):
                    if byte == ENQ and not decoder.is_begun:
                        line.sendall(ACK)
                    elif decoder.feed(byte) == STX:
                        self.payloads.append(bytes(decoder.data))
                        self._arrived.set()
                        decoder = Decoder(2**30)
                        if self.answer is not None:
                            line.sendall(self.answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()
        for line in self._lines:
            line.close()


def _received(line: socket.socket) -> bytes:
    try:
        return line.recv(65536)
    except OSError:
        return b""


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as device:
        yield device


class TestSerial(TransportSuite):
    """What holds for every transport."""

    @pytest.fixture
    def protocol(self) -> str:
        return "serial"

    @pytest.fixture
    def down(self) -> Address:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        return address(protocol="serial", port=port)

    @pytest.fixture
    def peer(self, device: Device) -> Peer:
        return Peer(
            address(protocol="serial", port=device.port),
            payloads=lambda: device.payloads,
            answer=lambda body: setattr(device, "answer", encode(body)),
            hang=lambda: setattr(device, "answer", None),
            wait=device.wait,
            refuses=frozenset({"bearer", "basic", "api_key", "hmac"}),
        )


def test_a_nak_is_a_nack(device: Device) -> None:
    device.answer = NAK

    async def send() -> None:
        async with opened(address(protocol="serial", port=device.port)) as transport:
            await transport.send(outgoing())

    with pytest.raises(TransportError) as caught:
        asyncio.run(send())
    assert caught.value.error_class is ErrorClass.NACK


@pytest.mark.parametrize("data", [b"", b"plain", b"\x02\x03\x10\x06", bytes(range(256))])
def test_every_byte_can_be_carried(data: bytes) -> None:
    decoder = Decoder(1000)
    assert decoder.feed(encode(data)) == STX
    assert bytes(decoder.data) == data
