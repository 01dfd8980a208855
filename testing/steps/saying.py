"""What steps over a line of their own say, and how long they wait for what: the fields, and how they are read."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import orjson

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from testing.document.kinds import (
    ANYTHING,
    DURATION_S,
    SIZE_BYTES,
    Field,
    Kind,
    ListOf,
    MapOf,
    Scalar,
    Shape,
    choice,
    integer,
    text,
)
from testing.document.nodes import Faults, Node

LONGEST = 1024 * 1024
LARGEST_FILL = 16 * 1024 * 1024
MOST = 10_000
SHOWN = 100
HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
NOT_GIVEN = object()
CLOSE = "close"


def _base64(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be base64")
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError(f"must be base64: {exc}") from exc
    return value


def _true(value: Any) -> bool:
    if value is not True:
        raise ValueError("can only be true")
    return True


TRUE = Scalar(_true, {"const": True}, fixed=True)
SAID: dict[str, Field] = {
    "json": Field(ANYTHING, "A message of JSON.", default=NOT_GIVEN),
    "text": Field(text(LONGEST), "A message of text.", default=NOT_GIVEN),
    "hex": Field(text(2 * LONGEST, HEX), "A message of bytes, as hexadecimal digits.", default=NOT_GIVEN),
    "base64": Field(Scalar(_base64, {"type": "string"}), "A message of bytes, as base64.", default=NOT_GIVEN),
    "fill": Field(SIZE_BYTES, "A text of so many bytes.", default=NOT_GIVEN),
    "wait": Field(DURATION_S, "Let time pass before the next.", default=NOT_GIVEN),
}


class Until(Kind):
    """`close`, or members that a message has to have."""

    def read(self, node: Node, place: str, faults: Faults) -> Any:
        if isinstance(node.value, dict):
            return MapOf(ANYTHING, re.compile(r"[^\x00-\x1f]{1,200}")).read(node, place, faults)
        return choice(CLOSE, fixed=False).read(node, place, faults)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"const": CLOSE}, {"type": "object"}]}


def said(**more: Field) -> ListOf:
    """Return the kind of what is sent: one message or several, each said in one of these ways."""
    ways = {**SAID, **more}
    times = Field(integer(1, MOST), "Say it so many times.", default=1)
    return ListOf(Shape({**ways, "times": times}, one_of=tuple(ways)), at_most=1000, or_one=True)


LISTENING: dict[str, Field] = {
    "expect": Field(integer(0, MOST), "For how many messages to wait; as many as are sent."),
    "until": Field(Until(), "Wait for a message with these members, or for `close`: the peer's end."),
    "ignore": Field(ListOf(MapOf(ANYTHING), or_one=True, at_most=20), "Messages with these do not count.", default=[]),
    "within": Field(DURATION_S, "How long to wait for them.", default=5.0),
    "listen": Field(DURATION_S, "How long to go on listening, for what should not come.", default=0.0),
}


def content(data: bytes, *, is_text: bool = True) -> Any:
    """Return a message as it is asserted of: the value of JSON, else its text, else its bytes as hex."""
    try:
        return strict_json.parse(data)
    except Malformed:
        pass
    try:
        return data.decode() if is_text else data.hex()
    except UnicodeDecodeError:
        return data.hex()


def body_of(item: Mapping[str, Any]) -> tuple[bytes, bool] | None:
    """Return (bytes, whether it is text) of an item that says something."""
    if item["json"] is not NOT_GIVEN:
        return orjson.dumps(item["json"]), True
    if item["text"] is not NOT_GIVEN:
        return str(item["text"]).encode(), True
    if item["hex"] is not NOT_GIVEN:
        return bytes.fromhex(item["hex"]), False
    if item["base64"] is not NOT_GIVEN:
        return base64.b64decode(item["base64"]), False
    if item["fill"] is not NOT_GIVEN:
        return b"x" * min(item["fill"], LARGEST_FILL), True
    return None


def wanted(params: Mapping[str, Any]) -> int:
    """Return for how many messages to wait."""
    if params["expect"] is not None:
        return int(params["expect"])
    return 0 if params["until"] is not None else sum(item["times"] for item in params["send"] if body_of(item))


def sent(params: Mapping[str, Any]) -> list[Any]:
    """Return what was said as it is recorded."""
    return [_shown(item) for item in params["send"][:SHOWN]]


def _shown(item: Mapping[str, Any]) -> Any:
    body = body_of(item)
    if body is None or item["times"] > 1:
        return {name: value for name, value in item.items() if value is not NOT_GIVEN}
    return content(body[0], is_text=body[1])
