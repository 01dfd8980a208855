"""Senders that know nothing of us: devices whose bytes are payloads, known by their address or certificate."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Forbidden, Malformed
from endpoints.transports.bodies import is_json
from messaging.intake.commit import Accepted, Answer
from messaging.intake.envelope import Draft
from messaging.listening import mllp
from messaging.listening.connection import Connection, Item
from messaging.listening.tally import Tally
from messaging.listening.tls import names_of
from messaging.models import ListenerAck

if TYPE_CHECKING:
    from messaging.listening.tcp import TcpServer

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TEXTUAL = ("line", "delimiter", "length")  # where HTTP and TLS would pass for a device's bytes
MLLP_REFUSED = {True: b"AE", False: b"AR"}  # AE: try again later; AR: never as it is


@dataclass(frozen=True, slots=True)
class Device:
    """One listener's senders: how they are known, and what their bytes become."""

    networks: tuple[Network, ...]
    certificates: frozenset[str]
    principal: Principal
    target: str
    message_type: str
    event_type: str
    content_type: str
    ack: str
    ack_bytes: bytes
    cap: int

    def knows(self, address: str, names: frozenset[str]) -> bool:
        """Say whether a peer is one of these: of its networks if any are named, and of its certificates if any are."""
        if self.certificates and not self.certificates & names:
            return False
        if not self.networks:
            return bool(self.certificates)
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self.networks)

    def draft(self, body: bytes) -> Draft:
        """Return the message that these bytes are; raises Malformed when they are not the JSON they are said to be."""
        made = Draft(
            payload=body,
            content_type=self.content_type,
            message_type=self.message_type,
            event_type=self.event_type,
            target_system=[self.target] if self.target else None,
        )
        if is_json(self.content_type):
            made.value = strict_json.parse(body)
        return made


class DeviceConnection(Connection):
    """Frames are payloads, byte for byte; what is answered once they are stored is configured."""

    def __init__(self, server: "TcpServer", devices: Sequence[tuple[Device, Tally]]) -> None:
        super().__init__(server)
        self._devices = devices
        self._device: Device
        self._is_first = True

    def arrive(self) -> ControlPlaneError | None:
        names = names_of(self._transport.get_extra_info("ssl_object"))
        for device, tally in self._devices:
            if device.knows(self.address, names):
                self._device, self.tally = device, tally
                self.decoder = self.server.framing.decoder(device.cap)
                return None
        return Forbidden("nobody is known at this address", code="unknown_sender")

    async def principal(self) -> Principal:
        return self._device.principal

    def data_received(self, data: bytes) -> None:
        if self._is_first and not self.is_closing:
            self._is_first = False
            if self.server.framing_name in TEXTUAL and self.tells_off(data):
                return
        super().data_received(data)

    def take(self, frame: bytes) -> None:
        try:
            draft: Draft | ControlPlaneError = self._device.draft(frame)
        except Malformed as exc:
            draft = exc
        header = mllp.read_header(frame) if self._device.ack == ListenerAck.MLLP else None
        if header is not None and header.control_id and isinstance(draft, Draft):
            # A sender without its acknowledgement sends again: the same id and bytes are the same message.
            digest = blake2b(frame, digest_size=16).hexdigest()
            draft.idempotency_key = f"{header.control_id.decode('latin-1')[:100]}:{digest}"
            draft.idempotency_key = "".join(letter for letter in draft.idempotency_key if letter.isprintable())
        self.put(draft, header, len(frame))

    def answer(self, item: Item, answer: Answer) -> bytes:
        device = self._device
        if device.ack == ListenerAck.MLLP:
            code, text = b"AA", ""
            if isinstance(answer, ControlPlaneError):
                code, text = MLLP_REFUSED[answer.status >= 500 or answer.status == 429], answer.detail
            return self.server.framing.encode(mllp.acknowledgement(item.ref, code, text, datetime.now(UTC)))
        if device.ack == ListenerAck.NONE:
            return b""
        # It has no words for "no": a closed connection is how it learns that something is wrong. An ack names
        # no message, it is counted: one for anything behind a refused message would be taken for that one's.
        self.is_refused = self.is_refused or not isinstance(answer, Accepted)
        return b"" if self.is_refused else device.ack_bytes
