"""What goes into an HTTP request's body: one row and one function per `body` setting."""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import jiter
import orjson

from endpoints.transports.base import Outgoing
from endpoints.transports.placeholders import ENVELOPE_FIELDS, Text, cannot_be_made

CE_ATTRIBUTE = re.compile("ce-[a-z0-9]+")
DATA = ("data", "database64")

# A body and its content type.
Made = tuple[bytes, str]
Maker = Callable[[Outgoing], Made]

MESSAGE_FIELDS = tuple(
    name for name in ENVELOPE_FIELDS if name not in ("delivery_id", "source_system", "target_system", "reply_to")
)


def is_json(content_type: str) -> bool:
    """Say whether a content type is JSON (`application/json`, `.../...+json`), whatever its parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def payload_members(outgoing: Outgoing, plain: str, encoded: str) -> dict[str, Any]:
    """Return the payload as a member of a JSON object: spliced in unchanged when it is JSON, else as base64."""
    if is_json(outgoing.content_type):
        try:
            jiter.from_json(outgoing.payload)
        except ValueError:
            pass  # it only says it is JSON
        else:
            return {plain: orjson.Fragment(outgoing.payload)}
    return {encoded: base64.b64encode(outgoing.payload).decode()}


def _payload(outgoing: Outgoing) -> Made:
    return outgoing.payload, outgoing.content_type


def _envelope(outgoing: Outgoing) -> Made:
    members = {name: getattr(outgoing, name) or None for name in ENVELOPE_FIELDS}
    members["headers"] = dict(outgoing.headers)
    members |= payload_members(outgoing, "payload", "payload_base64")
    return orjson.dumps(members), "application/json"


def _message(outgoing: Outgoing) -> Made:
    """Make a message as our own listeners take it; whoever sends it on says neither from whom nor to whom."""
    members = {name: value for name in MESSAGE_FIELDS if (value := getattr(outgoing, name))}
    if outgoing.headers:
        members["headers"] = dict(outgoing.headers)
    return orjson.dumps(members | payload_members(outgoing, "payload", "payload_base64")), "application/json"


def _cloudevents(outgoing: Outgoing) -> Made:
    """Make a structured-mode event (CloudEvents 1.0.2, JSON format)."""
    members: dict[str, Any] = {
        "specversion": "1.0",
        "id": outgoing.message_id,
        "source": outgoing.source_system,
        "type": outgoing.event_type or outgoing.message_type,
        "time": outgoing.timestamp,
        "datacontenttype": outgoing.content_type,
    }
    # What it had as an event when it came: its own source first of all, then what no field of ours stands for.
    kept = {name.lower(): value for name, value in outgoing.headers.items() if CE_ATTRIBUTE.fullmatch(name.lower())}
    members["source"] = kept.pop("ce-source", members["source"])
    members |= {name[3:]: value for name, value in kept.items() if name[3:] not in members and name[3:] not in DATA}
    if outgoing.correlation_id:
        members["correlationid"] = outgoing.correlation_id
    if outgoing.ordering_key:
        members["partitionkey"] = outgoing.ordering_key
    members |= payload_members(outgoing, "data", "data_base64")
    return orjson.dumps(members), "application/cloudevents+json"


def _form(outgoing: Outgoing) -> Made:
    """Make a form of a payload that is a flat JSON object; a list becomes a repeated field."""
    try:
        fields = jiter.from_json(outgoing.payload)
    except ValueError as exc:
        raise cannot_be_made("the payload is not JSON, so it cannot be sent as a form") from exc
    if not isinstance(fields, dict):
        raise cannot_be_made("the payload is not a JSON object, so it cannot be sent as a form")
    pairs = [
        (name, _field(name, item))
        for name, value in fields.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    return urlencode(pairs).encode(), "application/x-www-form-urlencoded"


def _field(name: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise cannot_be_made(f"payload.{name} is nested, so it cannot be sent as a form")
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return str(value)


def _as_json(field: str, value: str) -> str:
    """Escape a value as the inside of a JSON string; the payload, being JSON itself, goes in as it is."""
    return value if field == "payload" else orjson.dumps(value).decode()[1:-1]


def template_maker(template: str) -> Maker:
    """Return the maker for a text template: in a JSON message no value can break out of its quotes."""
    plain, quoted = Text(template), Text(template, escape=_as_json)

    def make(outgoing: Outgoing) -> Made:
        text = quoted if is_json(outgoing.content_type) else plain
        return text.fill(outgoing).encode(), outgoing.content_type

    return make


BODIES: Mapping[str, Maker] = {
    "payload": _payload,
    "envelope": _envelope,
    "cloudevents": _cloudevents,
    "form": _form,
    "message": _message,
}


def body_maker(config: Mapping[str, Any]) -> Maker:
    """Return what makes the body under this config; only a template needs more than its name."""
    if config.get("body") == "template":
        return template_maker(str(config.get("template", "")))
    return BODIES[config.get("body", "payload")]
