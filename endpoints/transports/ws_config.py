"""The `config` of a WebSocket endpoint: its JSON Schema, and what a schema cannot say."""

from collections.abc import Iterator, Mapping
from typing import Any

from endpoints.transports.http_config import HTTP_CONFIG, header_faults
from endpoints.transports.http_request import TOKEN
from endpoints.transports.placeholders import PLACEHOLDER

MAX_CONNECTIONS = 256

WS_CONFIG: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "WebSocket endpoint",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "subprotocols": {
            "type": "array",
            "items": {"type": "string", "maxLength": 200},
            "maxItems": 16,
            "uniqueItems": True,
            "description": "Offered in the handshake, the most wanted first.",
        },
        "compression": {
            "type": "boolean",
            "default": False,
            "description": "Offer permessage-deflate: less on the line for more work at both ends.",
        },
        "reply": {
            "enum": ["none", "ack", "message"],
            "default": "none",
            "description": "What delivers: nothing but the pong of a ping after it, an ack frame, or a reply that is an"
            " answer of its own.",
        },
        "match": {
            "enum": ["auto", "id"],
            "default": "auto",
            "description": "auto: one message at a time over a connection, and the next frame that names no other"
            " message answers it. id: many at a time; only a frame that names its message answers it.",
        },
        "connections": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_CONNECTIONS,
            "description": "How many connections there may be: by default `max_in_flight` where one message at a time"
            " goes over each, else 1.",
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "maxProperties": 100,
            "description": "Headers of the handshake.",
        },
        "body": {
            "enum": ["payload", "envelope"],
            "default": "payload",
            "description": "What a frame holds: the payload's bytes, or the whole message as JSON.",
        },
        "tls": HTTP_CONFIG["properties"]["tls"],
    },
}


def check_ws_config(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (field, fault) for everything wrong with a config that fits the schema."""
    found = list(_header_faults(config.get("headers") or {}))
    for index, name in enumerate(config.get("subprotocols") or []):
        if not TOKEN.fullmatch(name):
            found.append((f"subprotocols.{index}", "this is not the name of a subprotocol (RFC 6455, 4.1)"))
    if config.get("match") == "id" and config.get("reply", "none") == "none":
        found.append(("match", "without a reply there is nothing to match"))
    return found


def _header_faults(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from header_faults(headers)
    for name, value in headers.items():
        if name.lower().startswith("sec-websocket-"):
            yield f"headers.{name}", "this header belongs to the handshake and cannot be set"
        if PLACEHOLDER.search(str(value)):
            yield f"headers.{name}", "the handshake is made once for many messages, so it holds no placeholders"
