"""CloudEvents 1.0 over HTTP: attributes beside the data (binary mode), or one JSON object (structured mode).

An attribute that an envelope has a field for becomes that field; every other one
is kept as a header `ce-<name>`, so that an endpoint that sends CloudEvents gives
it back. Source: CloudEvents 1.0.2 core, JSON format and HTTP protocol binding.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from endpoints.transports.bodies import is_json
from messaging.intake.envelope import Draft, Unreadable
from messaging.intake.fields import CHECKS, check_content_type, check_target

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PREFIX = "ce-"
# Attribute -> field of the envelope. `source` is a URI, not a system; the other names of ours are extensions.
FIELD_OF = {
    "id": "message_id",
    "type": "event_type",
    "time": "timestamp",
    "partitionkey": "ordering_key",
    "correlationid": "correlation_id",
    "sourcesystem": "source_system",
    "targetsystem": "target_system",
}
REQUIRED = ("specversion", "id", "source", "type")
CORE = (*REQUIRED, "time", "subject", "dataschema")
DATA = ("data", "data_base64", "datacontenttype")
_NAME = re.compile(r"[a-z0-9]{1,64}")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def is_event(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a request is an event in binary mode."""
    return b"ce-specversion" in headers


def read_binary(body: bytes, headers: Mapping[bytes, bytes], bound_to: str) -> Draft:
    """Return the draft of an event in binary mode: attributes in `ce-` headers, the body its data, byte for byte.

    `bound_to` is the system the caller speaks as, "" for none. Raises Malformed naming the attributes at fault.
    """
    attributes: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for name, value in headers.items():
        if name.startswith(b"ce-"):
            try:
                attributes[name[3:].decode("ascii")] = unquote(value.decode("utf-8"), errors="strict")
            except UnicodeDecodeError:
                errors.append(_fault(name.decode("latin-1"), "must be percent-encoded UTF-8"))
    content_type = headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
    draft = _read(attributes, body, content_type, bound_to, errors)
    if is_json(draft.content_type) and body:
        draft.value = strict_json.parse(body)
    return draft


def read_structured(data: Any, bound_to: str) -> Draft:
    """Return the draft of an event in structured mode; raises Malformed naming the members at fault."""
    if not isinstance(data, dict):
        raise Malformed("an event must be a JSON object")
    errors: list[dict[str, str]] = []
    attributes = {name: value for name, value in data.items() if name not in DATA and value is not None}
    content_type, payload = _data(data, errors)
    draft = _read(attributes, payload, content_type, bound_to, errors)
    if is_json(content_type) and "data" in data:
        draft.value = data["data"]
    return draft


def _data(data: Mapping[str, Any], errors: list[dict[str, str]]) -> tuple[str, bytes]:
    """Return content type and bytes of a structured event's data (JSON format, section 3.1)."""
    content_type = data.get("datacontenttype")
    if "data" in data and data.get("data_base64") is not None:
        errors.append(_fault("data_base64", "give data or data_base64, not both"))
    elif data.get("data_base64") is not None:
        try:
            return _or(content_type, "application/octet-stream"), CHECKS["payload_base64"](data["data_base64"])
        except ValueError as exc:
            errors.append(_fault("data_base64", str(exc)))
    elif "data" not in data:
        return _or(content_type, "application/octet-stream"), b""
    elif content_type is None or (isinstance(content_type, str) and is_json(content_type)):
        return _or(content_type, "application/json"), strict_json.dumps(data["data"])
    elif isinstance(data["data"], str):
        return content_type, data["data"].encode()
    else:
        errors.append(_fault("data", "must be text when datacontenttype is not JSON; else use data_base64"))
    return _or(content_type, "application/json"), b""


def _or(given: Any, default: str) -> Any:
    """Return what was given, whatever it is; the default only where nothing was."""
    return default if given is None else given


def _read(
    attributes: Mapping[str, Any], payload: bytes, content_type: Any, bound_to: str, errors: list[dict[str, str]]
) -> Draft:
    known: dict[str, Any] = {}
    kept: dict[str, str] = {}
    errors += [_fault(name, "is required", "required") for name in REQUIRED if name not in attributes]
    if attributes.get("specversion", "1.0") != "1.0":
        errors.append(_fault("specversion", "must be 1.0"))
    for name, value in attributes.items():
        try:
            text = _text(name, value)
            if field := FIELD_OF.get(name):
                known[field] = CHECKS[field](_targets(text) if field == "target_system" else text)
            elif name != "specversion":
                kept[PREFIX + name] = text
        except ValueError as exc:
            errors.append(_fault(name, str(exc)))
    try:
        known["content_type"] = check_content_type(content_type)
    except ValueError as exc:
        errors.append(_fault("datacontenttype", str(exc)))
    try:
        known["headers"] = CHECKS["headers"](kept)
    except ValueError as exc:
        errors.append(_fault("headers", str(exc)))
    if errors:
        raise Unreadable(errors[:10], known.get("message_id"))
    source = kept["ce-source"]
    if "source_system" not in known and not bound_to and _SLUG.fullmatch(source):
        known["source_system"] = check_target(source)  # as an endpoint of ours writes it
    return Draft(payload=payload, **known)


def _text(name: str, value: Any) -> str:
    """Return an attribute's value as text (core, type system); raises ValueError for what is none."""
    if not _NAME.fullmatch(name):
        raise ValueError("attribute names have 1 to 64 characters of a-z and 0-9")
    if name in CORE and not isinstance(value, str):
        raise ValueError("must be text")
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int)) or value == "":
        raise ValueError("must be text, a whole number or true or false, and not empty")
    text = str(value)
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


def _targets(text: str) -> str | list[str]:
    """Return the targets that an extension, which cannot be a list, names with commas."""
    return [part.strip() for part in text.split(",")] if "," in text else text


def _fault(name: str, detail: str, code: str = "invalid") -> dict[str, str]:
    return {"field": name[:100], "code": code, "detail": detail}
