"""Senders that speak our envelope over TCP: a token first, then message objects, each answered by an ack or nack."""

from typing import TYPE_CHECKING, Any

import orjson

from endpoints.access import roles
from endpoints.access.authenticate import aauthenticate, remembered
from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed, Unauthenticated
from endpoints.transports.framing import Unframable
from messaging.intake.commit import Accepted, Answer
from messaging.intake.directory import find_longest
from messaging.intake.envelope import id_of, read_message
from messaging.listening.connection import Connection, Item
from messaging.listening.opening import Opening

if TYPE_CHECKING:
    from messaging.listening.tcp import TcpServer

MAX_REF = 64
PING = {"type": "ping"}


class EnvelopeConnection(Connection):
    """`{"type":"auth","token"}` -> `{"type":"ready","system"}`; then messages, acknowledged in any order."""

    def __init__(self, server: "TcpServer") -> None:
        super().__init__(server)
        self._framing = server.framing
        self._opening: Opening | None = Opening(server.framing_name)
        self._early = bytearray()  # what came before it was known who speaks
        self.token = ""
        self.caller: Principal | None = None

    @property
    def is_known(self) -> bool:
        return self.caller is not None

    async def principal(self) -> Principal:
        found = remembered(self.token) or await aauthenticate(self.token)
        roles.require(found, "messages", "create")
        self.caller = found
        return found

    # -- who speaks

    def open_with(self, data: bytes) -> None:
        if self._opening is None:  # it is being looked up
            self._early += data
            return
        found = self._opening.feed(data)
        if found is None:
            self.frame_at = self.frame_at or self.last_at
            return
        self._opening = None
        self.token = _token(found[0])
        self._early += found[1]
        self._pause(True)
        self._task = self.server.start(self._authenticate())

    async def _authenticate(self) -> None:
        try:
            caller = await self.principal()
            cap = await _cap(caller)
        except ControlPlaneError as exc:
            self._task = None
            self.close(exc)
            return
        self._task = None
        if self.is_closing:
            self._finish()
            return
        self.frame_at = None
        self.decoder = self._framing.decoder(cap)
        self._say({"type": "ready", "system": caller.system_slug or None})
        self._hold_up()
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.data_received(early)
        if self._has_ended and self._task is None:
            self._finish()

    # -- what it says

    def take(self, frame: bytes) -> None:
        ref: Any = None
        data: Any = None
        try:
            data = strict_json.parse(frame, exact_numbers=True)
            if isinstance(data, dict):
                ref = _ref(data.pop("ref", None))
                if data == PING:
                    self._say({"type": "pong", "ref": ref})
                    return
            self.put(read_message(data), ref, len(frame))
        except Malformed as exc:
            self.put(exc, ref, len(frame), id_of(data))

    def answer(self, item: Item, answer: Answer) -> bytes:
        if isinstance(answer, Accepted):
            told = {"type": "ack", "message_id": answer.message_id, "ref": item.ref, "status": answer.status}
        else:
            draft = item.draft
            name = item.message_id if isinstance(draft, ControlPlaneError) else draft.message_id or None
            told = {"type": "nack", "message_id": name, "ref": item.ref, "code": answer.code, "detail": answer.detail}
        return self._framed(told)

    def farewell(self, error: ControlPlaneError) -> bytes:
        return self._framed({"type": "error", "code": error.code, "detail": error.detail})

    def _say(self, told: dict[str, Any]) -> None:
        self._write(self._framed(told))

    def _framed(self, told: dict[str, Any]) -> bytes:
        try:
            return self._framing.encode(orjson.dumps(told))
        except Unframable:  # never of JSON without line ends; said for whoever adds a framing
            return b""


def _token(frame: bytes) -> str:
    """Return the token of the first frame; raises Unauthenticated for anything else."""
    try:
        data = strict_json.parse(frame)
    except Malformed as exc:
        raise Unauthenticated('the first frame must be {"type":"auth","token":"..."}') from exc
    if not isinstance(data, dict) or data.get("type") != "auth" or not isinstance(data.get("token"), str):
        raise Unauthenticated('the first frame must be {"type":"auth","token":"..."}')
    return str(data["token"])


def _ref(value: Any) -> Any:
    if value is None or (isinstance(value, str) and len(value) <= MAX_REF):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    detail = f"must be a text of at most {MAX_REF} characters, or a whole number"
    raise Malformed(f"ref: {detail}", code="invalid", errors=[{"field": "ref", "code": "invalid", "detail": detail}])


async def _cap(caller: Principal) -> int:
    """Return how large a frame may be: half as much again as its system, or whichever may most, may send."""
    return await find_longest(caller.system_slug) * 3 // 2
