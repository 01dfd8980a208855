"""What clients may say: one row a frame type, one small function each."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed
from messaging.gateway.streams import Subscriptions

if TYPE_CHECKING:
    from messaging.gateway.connection import Connection

MAX_REF_CHARS = 64
Frame = Mapping[str, Any]


class BadFrame(Malformed):
    """A frame that no client in its right mind sends: three of them end the connection."""

    code = "bad_frame"

    def __init__(self, detail: str, ref: str | None = None) -> None:
        super().__init__(detail)
        self.ref = ref


def parse(text: str) -> Frame:
    """Return a frame as strict JSON; raises BadFrame, with its `ref` where that could be made out."""
    body = text.encode()
    try:
        frame = strict_json.parse(body, exact_numbers=True)
    except ControlPlaneError as exc:
        raise BadFrame(exc.detail, _ref_of_broken(body)) from exc
    if not isinstance(frame, dict):
        raise BadFrame("a frame must be a JSON object")
    return frame


def ref_of(frame: Frame) -> str | None:
    """Return what the client wants its answer to be known by; raises BadFrame."""
    ref = frame.get("ref")
    if ref is not None and not (isinstance(ref, str) and len(ref) <= MAX_REF_CHARS):
        raise BadFrame(f"ref: must be a text of at most {MAX_REF_CHARS} characters")
    return ref


def _ref_of_broken(body: bytes) -> str | None:
    try:
        return ref_of(orjson.loads(body))
    except (ValueError, AttributeError, BadFrame):
        return None


async def auth(connection: "Connection", frame: Frame) -> None:
    """Name the system, once: for an unbound key that came in a header."""
    await connection.name_system(frame.get("token"), frame.get("system"))


async def send(connection: "Connection", frame: Frame) -> None:
    """Store a message; `ack` or `nack` follows once that is done."""
    if "message" not in frame:
        raise BadFrame("send: `message` is missing", ref_of(frame))
    await connection.take_message(ref_of(frame), frame["message"])


async def ack(connection: "Connection", frame: Frame) -> None:
    """Take a delivery as delivered."""
    connection.deliveries.ack(frame)


async def nack(connection: "Connection", frame: Frame) -> None:
    """Take a delivery as refused: it is tried again."""
    connection.deliveries.nack(frame)


async def reply(connection: "Connection", frame: Frame) -> None:
    """Take a delivery as delivered, with an answer."""
    connection.deliveries.reply(frame)


async def credit(connection: "Connection", frame: Frame) -> None:
    """Say how many deliveries the client takes before it acknowledges the first; with an `id`, let a stream go on."""
    if "id" in frame:
        await _streams_of(connection).credit(dict(frame))
    else:
        connection.deliveries.set_credit(frame)


async def subscribe(connection: "Connection", frame: Frame) -> None:
    """Begin an event stream."""
    await _streams_of(connection).subscribe(dict(frame))


async def unsubscribe(connection: "Connection", frame: Frame) -> None:
    """End an event stream."""
    await _streams_of(connection).unsubscribe(dict(frame))


def _streams_of(connection: "Connection") -> Subscriptions:
    assert connection.streams is not None  # frames are taken once it is known who is there
    return connection.streams


async def ping(connection: "Connection", frame: Frame) -> None:
    """Answer: the line and this process are alive."""
    connection.tell({"type": "pong", "ref": ref_of(frame)})


async def pong(connection: "Connection", frame: Frame) -> None:
    """Nothing to do: that something came is the news."""


FRAMES: dict[str, Callable[["Connection", Frame], Awaitable[None]]] = {
    "auth": auth,
    "send": send,
    "ack": ack,
    "nack": nack,
    "reply": reply,
    "credit": credit,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "ping": ping,
    "pong": pong,
}


async def take(connection: "Connection", text: str) -> None:
    """Do what a frame asks; raises BadFrame, and ControlPlaneError for what is refused."""
    frame = parse(text)
    ref = ref_of(frame)
    kind = frame.get("type")
    act = FRAMES.get(kind) if isinstance(kind, str) else None
    if act is None:
        raise BadFrame(f"type: must be one of {', '.join(FRAMES)}", ref)
    try:
        await act(connection, frame)
    except BadFrame as exc:
        exc.ref = exc.ref or ref
        raise
    except ControlPlaneError as exc:
        connection.tell({"type": "error", "ref": ref, "code": exc.code, "detail": exc.detail})
