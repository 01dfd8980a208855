"""The `config` of a TCP or TLS endpoint: its JSON Schema, and what a schema cannot say."""

from collections.abc import Callable, Mapping
from typing import Any

from endpoints.transports.acknowledgements import Judge, judge_hl7, judge_json, judge_reply
from endpoints.transports.base import Outgoing, Unfit
from endpoints.transports.bodies import body_maker
from endpoints.transports.framing import FRAMINGS, MAX_SIZE, Framing, Unframable, framing_faults, make_framing
from endpoints.transports.http_config import HTTP_CONFIG
from endpoints.transports.placeholders import faults
from endpoints.transports.stream import Answered

FRAMING, REPLY = "line", "none"
GREETS = frozenset({"line", "length"})  # framings in which JSON is spoken, so that a token can be shown
MADE_JSON = frozenset({"envelope", "cloudevents", "message"})
BODY: dict[str, Any] = {
    "enum": ["payload", "envelope", "cloudevents", "message", "template"],
    "default": "payload",
    "description": "What is sent: the payload's bytes, the whole message, a CloudEvent, a message as listeners of "
    "a control plane take it, or a template.",
}

TCP_CONFIG: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "TCP endpoint",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "framing": {
            "enum": list(FRAMINGS),
            "default": FRAMING,
            "description": "How one message is told from the next; both ways.",
        },
        "size": {"type": "integer", "minimum": 1, "maximum": MAX_SIZE, "description": "Bytes of each frame (fixed)."},
        "delimiter": {
            "type": "string",
            "minLength": 1,
            "maxLength": 40,
            "description": "What ends a frame: a text, or 'hex:' and hexadecimal digits (delimiter).",
        },
        "reply": {
            "enum": ["none", "ack", "message"],
            "default": REPLY,
            "description": "What the peer says to each message: nothing, that it has it, or an answer to keep.",
        },
        "body": BODY,
        "template": {"type": "string", "maxLength": 65536},
        "tls": HTTP_CONFIG["properties"]["tls"],
    },
}


def check_template(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (field, fault) for a template that cannot be filled, is missing, or is of no use."""
    found = [("template", fault) for fault in faults(config.get("template", ""))]
    if (config.get("body") == "template") != bool(config.get("template")):
        found.append(("template", "a template is needed with body 'template', and only then"))
    return found


def check_tcp_config(config: Mapping[str, Any], *, is_tls: bool) -> list[tuple[str, str]]:
    """Return (field, fault) for everything wrong with a config that fits the schema."""
    framing, reply = config.get("framing", FRAMING), config.get("reply", REPLY)
    found = framing_faults(framing, config) + check_template(config)
    if framing == "raw" and reply == "ack":
        found.append(("reply", "raw bytes have no frames, so an acknowledgement cannot be told from them"))
    if framing == "raw" and reply == "message" and is_tls:
        found.append(("reply", "over TLS no side can say that it is done and still listen, so nothing ends a reply"))
    return found


def framing_of(config: Mapping[str, Any]) -> Framing:
    """Return the framing of an endpoint; raises ValueError."""
    return make_framing(config.get("framing", FRAMING), config)


def frame_maker(config: Mapping[str, Any]) -> Callable[[Outgoing], tuple[bytes, bytes]]:
    """Return what makes (body, frame) of a message; that raises Unframable, or TransportError of class transform.

    JSON that is made here goes on one line: outside of texts a line break is a space,
    and within them it stands escaped.
    """
    framing, make_body = framing_of(config), body_maker(config)
    on_one_line = config.get("body") in MADE_JSON and config.get("framing", FRAMING) == "line"

    def make(outgoing: Outgoing) -> tuple[bytes, bytes]:
        body = make_body(outgoing)[0]
        if on_one_line:
            body = body.replace(b"\n", b" ")
        return body, framing.encode(body)

    return make


def unframable(config: Mapping[str, Any]) -> Unfit | None:
    """Return what tells of a payload that can never be framed under this config; see `Transport.unfit`."""
    name = config.get("framing", FRAMING)
    if config.get("body", "payload") != "payload" or name in ("raw", "length"):
        return None
    try:
        framing = framing_of(config)
    except ValueError:
        return None

    def check(payload: bytes) -> str:
        try:
            framing.encode(payload)
        except Unframable as exc:
            return f"framing '{name}': {exc}"
        return ""

    return check


def what_answers(config: Mapping[str, Any]) -> tuple[Answered, Judge | None]:
    """Return what ends an exchange under this config, and what judges the answer."""
    framing, reply = config.get("framing", FRAMING), config.get("reply", REPLY)
    if reply == "none":
        return Answered.WRITTEN, None
    if framing == "raw":
        return Answered.END, judge_reply
    if framing == "mllp":
        return Answered.FRAME, judge_hl7
    return Answered.FRAME, judge_json if reply == "ack" else judge_reply
