"""The `config` of an HTTP endpoint: its JSON Schema, and what a schema cannot say."""

from collections.abc import Iterator, Mapping
from typing import Any

from endpoints.transports.base import ErrorClass, TransportError
from endpoints.transports.credentials import Authorization
from endpoints.transports.http_request import HOP_BY_HOP, TOKEN, UNSAFE
from endpoints.transports.placeholders import faults

_TEXTS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}, "maxProperties": 100}
NOT_TO_SET = HOP_BY_HOP | {"host", "content-length"}

HTTP_CONFIG: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "HTTP endpoint",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "method": {"enum": ["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD"], "default": "POST"},
        "query": {**_TEXTS, "description": "Query parameters; values may hold ${{ message.<field> }}."},
        "headers": {**_TEXTS, "description": "Request headers; values may hold ${{ message.<field> }}."},
        "body": {
            "enum": ["payload", "envelope", "cloudevents", "form", "template"],
            "default": "payload",
            "description": "What is sent: the payload's bytes, the whole message, a CloudEvent, a form, or a template.",
        },
        "template": {"type": "string", "maxLength": 65536},
        "tls": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "verify": {"type": "boolean", "default": True},
                "ca": {"type": "string", "description": "Certificates to trust instead of the system's, as PEM."},
                "server_name": {"type": "string", "maxLength": 253, "description": "Name to ask for and verify."},
                "client_credential": {"type": "string", "description": "Name of an mtls credential."},
            },
        },
        "signing_credential": {
            "description": "Name of the hmac credential to sign with; two while rotating, the newest first.",
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4},
            ],
        },
        "probe_method": {"enum": ["GET", "HEAD", "OPTIONS"], "default": "GET"},
    },
}


def check_http_config(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (field, fault) for everything wrong with a config that fits the schema."""
    found = list(header_faults(config.get("headers") or {}))
    for name in ("query", "headers"):
        for key, value in (config.get(name) or {}).items():
            found += [(f"{name}.{key}", fault) for fault in faults(str(value))]
    found += [("template", fault) for fault in faults(config.get("template", ""))]
    if (config.get("body") == "template") != bool(config.get("template")):
        found.append(("template", "a template is needed with body 'template', and only then"))
    return found


def header_faults(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, fault) for each header that cannot be sent, or is not the endpoint's to set."""
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            yield f"headers.{name}", "this is not a header name"
        if name.lower() in NOT_TO_SET:
            yield f"headers.{name}", "this header belongs to the connection and cannot be set"
        if UNSAFE.search(str(value)):
            yield f"headers.{name}", "a header value may not hold line breaks or control characters"


def check_authorization(auth: Authorization) -> None:
    """Raise TransportError when a credential could change more of a request than its own header."""
    for name, value in auth.fixed.items():
        if not TOKEN.fullmatch(name) or name in NOT_TO_SET or UNSAFE.search(value):
            raise TransportError(f"{auth.mask} cannot stand in a header", error_class=ErrorClass.AUTH)
