"""A UDP server: datagrams are checked and stored in lots; what there is no room for is dropped and counted."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from endpoints.access import roles
from endpoints.access.principal import Principal
from endpoints.access.signed import Signer, find_signers, note_use
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed, Unauthenticated
from messaging.intake.commit import Accepted, Answer
from messaging.intake.counter import HandedIn, Intake
from messaging.intake.envelope import Draft, name_of, read_message
from messaging.listening.devices import Device
from messaging.listening.sockets import datagram_socket, kernel_drops
from messaging.listening.tally import Tally

WINDOW_S = 300.0
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
LOT = 1000
PATIENCE_S = 5.0
MEMBERS = frozenset(("v", "key", "ts", "nonce", "mac", "body", "ack"))
Peer = tuple[Any, ...]


@dataclass(slots=True)
class Datagram:
    """What came, and from where: an address that anybody may have written there."""

    data: bytes
    peer: Peer
    wants_ack: bool = False
    tally: Tally | None = None


class UdpServer(asyncio.DatagramProtocol):
    """One socket; senders sign what they send, or are devices known by the address they send from."""

    def __init__(self, intake: Intake, tally: Tally, devices: Sequence[tuple[Device, Tally]] = ()) -> None:
        self._intake, self.tally, self._devices = intake, tally, devices
        self._waiting: list[Datagram] = []
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._storing: set[asyncio.Future[list[Answer]]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._place = ("", 0)
        self._dropped = 0  # by us
        self._is_ending = False

    async def open(self, host: str, port: int) -> int:
        """Begin to listen and return the port; raises OSError when the address cannot be had."""
        found = datagram_socket(host, port)
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=found)
        except OSError:
            found.close()
            raise
        self._place = (host, int(found.getsockname()[1]))
        return self._place[1]

    async def aclose(self) -> None:
        """Take nothing more; what came is stored."""
        self._is_ending = True
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                if self._task is not None:
                    await self._task
                if self._storing:
                    await asyncio.wait(self._storing)
        if self._transport is not None:
            self._transport.close()

    def look(self) -> None:
        """Bring the count of dropped datagrams up to date: those the kernel had no room for, and ours."""
        self.tally.dropped = self._dropped + kernel_drops(self._place[1])

    # -- asyncio.DatagramProtocol

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        if self._is_ending:
            return
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            self._dropped += 1
            return
        self._waiting.append(Datagram(data, addr))
        self._waiting_bytes += len(data)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="datagrams")

    def error_received(self, exc: Exception) -> None:
        """Nothing: a peer that takes no answer is no fault of ours."""

    # -- from datagrams to messages

    async def _work(self) -> None:
        try:
            while self._waiting:
                lot, self._waiting = self._waiting[:LOT], self._waiting[LOT:]
                self._waiting_bytes -= sum(len(item.data) for item in lot)
                await (self._take_raw(lot) if self._devices else self._take_signed(lot))
        finally:
            self._task = None

    async def _take_signed(self, lot: list[Datagram]) -> None:
        """Store what is signed by a living key; nobody else is answered, nor told why."""
        opened = []
        for item in lot:
            try:
                opened.append((item, _open(item)))
            except ControlPlaneError as exc:
                self.tally.refuse(str(item.peer[0]), exc.code, exc.detail)
        try:
            signers = await find_signers([outer["key"] for _, outer in opened])
        except ControlPlaneError as exc:
            for item, _ in opened:
                self.tally.refuse(str(item.peer[0]), exc.code, exc.detail)
            return
        now = time.time()
        of: dict[str, tuple[Signer, list[Datagram], list[Draft | ControlPlaneError]]] = {}
        for item, outer in opened:
            try:
                signer = _judge(outer, signers.get(outer["key"]), now)
            except Unauthenticated as exc:
                self.tally.refuse(str(item.peer[0]), exc.code, exc.detail)
                continue
            note_use(signer)
            _, items, drafts = of.setdefault(signer.id, (signer, [], []))
            items.append(item)
            drafts.append(_draft(outer["body"]))
        await asyncio.gather(*(self._store(signer.principal, items, drafts) for signer, items, drafts in of.values()))

    async def _take_raw(self, lot: list[Datagram]) -> None:
        of: dict[int, tuple[Device, list[Datagram], list[Draft | ControlPlaneError]]] = {}
        for item in lot:
            address = str(item.peer[0])
            found = next((pair for pair in self._devices if pair[0].knows(address, frozenset())), None)
            if found is None:
                self.tally.refuse(address, "unknown_sender", "nobody is known at this address")
                continue
            device, item.tally = found
            _, items, drafts = of.setdefault(id(device), (device, [], []))
            items.append(item)
            try:
                drafts.append(device.draft(item.data))
            except Malformed as exc:
                drafts.append(exc)
        await asyncio.gather(*(self._store(device.principal, items, drafts) for device, items, drafts in of.values()))

    async def _store(
        self, principal: Principal, items: list[Datagram], drafts: list[Draft | ControlPlaneError]
    ) -> None:
        """Hand in what one sender sent, and go on reading: it is answered once it is durable."""
        try:
            roles.require(principal, "messages", "create")
            handed = await self._intake.hand_in(drafts, principal, PATIENCE_S)
        except ControlPlaneError as exc:
            self._answer(items, drafts, [exc] * len(items))
        else:
            self._storing.add(handed.stored)
            handed.stored.add_done_callback(partial(self._stored, items, drafts, handed))

    def _stored(
        self,
        items: list[Datagram],
        drafts: list[Draft | ControlPlaneError],
        handed: HandedIn,
        done: "asyncio.Future[list[Answer]]",
    ) -> None:
        self._storing.discard(done)
        if not done.cancelled():
            self._answer(items, drafts, handed.answers())

    def _answer(
        self, items: list[Datagram], drafts: list[Draft | ControlPlaneError], answers: Sequence[Answer]
    ) -> None:
        for item, draft, answer in zip(items, drafts, answers, strict=True):
            (item.tally or self.tally).take([answer], str(item.peer[0]))
            if item.wants_ack:
                self._tell(item, draft, answer)

    def _tell(self, item: Datagram, draft: Draft | ControlPlaneError, answer: Answer) -> None:
        """Answer a signed datagram that asks for it, never with more bytes than it had: nobody gains by forging one."""
        name = answer.message_id if isinstance(answer, Accepted) else name_of(draft)
        if isinstance(answer, Accepted):
            told = orjson.dumps({"type": "ack", "message_id": name, "status": answer.status})
        else:
            told = orjson.dumps({"type": "nack", "message_id": name, "code": answer.code})
        if len(told) <= len(item.data) and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(told, item.peer)


def _open(item: Datagram) -> dict[str, Any]:
    """Return the members of a datagram, none of them believed yet; raises Malformed."""
    outer = strict_json.parse(item.data, exact_numbers=True)
    if not isinstance(outer, dict) or outer.get("v") != 1 or isinstance(outer.get("v"), bool):
        raise Malformed("a datagram must be a JSON object with v: 1")
    if unknown := outer.keys() - MEMBERS:
        raise Malformed(f"'{min(unknown)[:50]}' is not a member of a datagram", code="invalid")
    for name in ("key", "nonce", "mac", "body"):
        if not isinstance(outer.get(name), str):
            raise Malformed(f"{name}: must be a text", code="invalid")
    stamp = outer.get("ts")
    if isinstance(stamp, (bool, str, list, dict)) or stamp is None:
        raise Malformed("ts: must be unix seconds", code="invalid")
    if not 1 <= len(outer["nonce"]) <= 200 or len(outer["key"]) > 100:
        raise Malformed("nonce: must have 1 to 200 characters", code="invalid")
    item.wants_ack = outer.get("ack") is True
    return outer


def _judge(outer: dict[str, Any], signer: Signer | None, now: float) -> Signer:
    """Return who signed; raises Unauthenticated. What is compared takes the same time whatever it is."""
    stamp = outer["ts"]
    written = bytes(stamp).decode() if not isinstance(stamp, int) else str(stamp)
    signed = f"{written}.{outer['nonce']}.{outer['body']}".encode()
    wanted = hmac.digest(signer.secret if signer else b"nobody", signed, "sha256")
    try:
        given = bytes.fromhex(outer["mac"])
    except ValueError:
        given = b""
    if not hmac.compare_digest(given, wanted) or signer is None:
        raise Unauthenticated("the key is not known, or the mac does not fit", code="bad_mac")
    if abs(now - float(stamp)) > WINDOW_S:
        raise Unauthenticated(f"ts is not within {WINDOW_S:g} s of our clock", code="stale")
    return signer


def _draft(body: str) -> Draft | ControlPlaneError:
    try:
        draft = read_message(strict_json.parse(body.encode(), exact_numbers=True))
        if not draft.message_id:
            raise Malformed("message_id: is required in a datagram, so that a replay is a duplicate", code="invalid")
    except Malformed as exc:
        return exc
    return draft
