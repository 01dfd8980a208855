"""What a peer's frame says of the message it answers: taken, refused, or meant for another one."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from endpoints.transports.base import MAX_RETRY_AFTER_S, ErrorClass, Outgoing, TransportError

REFUSALS = ("nack", "error")  # no set: what stands beside "type" may be anything
# HL7 table 0008: application accept, error, reject; commit accept, error, reject.
HL7_TAKEN = frozenset({"AA", "CA"})
HL7_REFUSED = {"AE": "error", "CE": "error", "AR": "reject", "CR": "reject"}

_LONGEST_INT = 19  # digits; longer ones are read as what they are about
_READER = json.JSONDecoder(parse_int=lambda text: (int if len(text) <= _LONGEST_INT else float)(text))
_BLANK = re.compile(r"[ \t\r\n]*")

Judge = Callable[[bytes, bytes, Outgoing], None]


def judge_json(answer: bytes, _: bytes, outgoing: Outgoing) -> None:
    """Raise TransportError when a JSON object says `nack` or `error`, or names another message.

    Whatever else was said is an acknowledgement: devices have words of their own.
    """
    said = members_of(answer)
    if said is None:
        return
    if said.get("type") in REFUSALS:
        raise refused(said)
    for name in ("message_id", "delivery_id"):
        if name in said and said[name] != getattr(outgoing, name):
            raise TransportError(f"the answer names another {name}", error_class=ErrorClass.PROTOCOL)


def refused(said: Mapping[str, Any]) -> TransportError:
    """Return the error that a JSON object is which refuses a message: its reason, and when to come again."""
    words = ": ".join(str(said[name]) for name in ("code", "detail", "reason") if said.get(name))
    return TransportError(
        f"the peer refused it: {words or 'it says no more'}"[:300],
        error_class=ErrorClass.NACK,
        retry_after_s=_seconds(said.get("retry_after_s")),
    )


def judge_reply(answer: bytes, _: bytes, __: Outgoing) -> None:
    """Raise TransportError when a reply is a JSON object that says `nack`; any other is the peer's business."""
    said = members_of(answer)
    if said is not None and said.get("type") == "nack":
        judge_json(answer, b"", _NOBODY)


def judge_hl7(answer: bytes, sent: bytes, _: Outgoing) -> None:
    """Raise TransportError unless segment MSA says that the message was taken (HL7 2.x, chapter 2.9.2)."""
    acknowledgement = segment(answer, b"MSA")
    if acknowledgement is None:
        raise TransportError("the answer has no segment MSA", error_class=ErrorClass.PROTOCOL)
    code = _field(acknowledgement, 1)
    if code in HL7_REFUSED:
        text = _field(acknowledgement, 3)
        raise TransportError(
            f"the peer answered {code} ({HL7_REFUSED[code]}){f': {text}' if text else ''}"[:300],
            error_class=ErrorClass.NACK,
        )
    if code not in HL7_TAKEN:
        raise TransportError(f"the peer answered MSA '{code[:20]}'", error_class=ErrorClass.PROTOCOL)
    header = segment(sent, b"MSH")
    wanted, answered = _field(header or [], 9), _field(acknowledgement, 2)  # MSH-1 is the separator itself
    if wanted and answered and wanted != answered:
        raise TransportError("the answer acknowledges another message (MSA-2)", error_class=ErrorClass.PROTOCOL)


def json_object(body: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object that `body` is, None when it is something else."""
    if body[:1] != b"{" and body.lstrip()[:1] != b"{":
        return None
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def members_of(body: bytes) -> Mapping[str, Any] | None:
    """Return the members of the JSON object that `body` is, or the first of them that can be read; None for another.

    What refuses a message does so even if it was cut, is not UTF-8, or holds half a character or a number that no
    strict reader takes: taken for words of a device's own it would be an acknowledgement.
    """
    whole = json_object(body)
    return (_first_members(body) or None) if whole is None else whole


def _first_members(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    text = body.decode("utf-8", "replace")
    at = _after_blanks(text, 0)
    try:
        while text[at : at + 1] == ("," if found else "{"):
            name, at = _READER.raw_decode(text, _after_blanks(text, at + 1))
            at = _after_blanks(text, at)
            if not isinstance(name, str) or text[at : at + 1] != ":":
                break
            value, at = _READER.raw_decode(text, _after_blanks(text, at + 1))
            found[name] = value.encode(errors="replace").decode() if isinstance(value, str) else value
            at = _after_blanks(text, at)
    except (ValueError, RecursionError):  # so far it could be read
        pass
    return found


def _after_blanks(text: str, at: int) -> int:
    return _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it fits everywhere


def segment(message: bytes, name: bytes) -> list[bytes] | None:
    """Return the fields of the first segment called `name`, by the separator that the header names."""
    separator = message[3:4] if message[:3] == b"MSH" else b"|"
    for line in message.replace(b"\n", b"\r").split(b"\r"):
        if line[:3] == name and line[3:4] == separator:
            return line.split(separator)
    return None


def _field(fields: list[bytes], number: int) -> str:
    return fields[number].decode("utf-8", "replace").strip() if number < len(fields) else ""


def _seconds(given: Any) -> float | None:
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0:
        return min(float(given), MAX_RETRY_AFTER_S)
    return None


_NOBODY = Outgoing("", 0, "", "", "", "", "", "", "", b"")
