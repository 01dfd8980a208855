"""What the values of JSON fields must look like: one row per field, one function per shape.

A check raises ValueError with a text for the person who typed the value, or a
ControlPlaneError that names the place itself.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from endpoints.addresses import normalise_host
from endpoints.edge import strict_json
from endpoints.edge.json_path import path_fault
from endpoints.errors import ControlPlaneError, Malformed
from endpoints.models import Credential, Endpoint, System
from endpoints.transports import transport_class
from endpoints.transports.config import validate_config
from endpoints.transports.outcomes import compile_rules

MAX_LABELS = 50
MAX_METADATA_BYTES = 64 * 1024
MAX_TIER = 1000
MAX_RETRIES = 50
MAX_RETRY_S = 7 * 24 * 3600
USES = ("deliver", "probe", "test")
KEY_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,49}")
# One line of printable ASCII as RFC 3986 allows it, and `${{ message.<field> }}`.
PATH = re.compile(r"/[!-\[\]-~]*(?:\$\{\{ ?[a-z_.]+ ?\}\}[!-\[\]-~]*)*")


def labels(value: Any) -> None:
    """A list of short texts, each once."""
    _must(isinstance(value, list) and len(value) <= MAX_LABELS, f"must be a list of at most {MAX_LABELS} texts")
    for item in value:
        _must(
            isinstance(item, str) and 1 <= len(item) <= 150 and item.isprintable() and item == item.strip(),
            "each must be a text of 1 to 150 printable characters",
        )
    _must(len(set(value)) == len(value), "must not name the same twice")


def metadata(value: Any) -> None:
    """An object of bounded size."""
    _must(isinstance(value, dict), "must be an object")
    _must(len(json.dumps(value)) <= MAX_METADATA_BYTES, f"must be at most {MAX_METADATA_BYTES} bytes of JSON")


def storable(value: Any) -> None:
    """Anything both databases can keep: what a form read with a laxer parser is judged like a request."""
    strict_json.parse(json.dumps(value, allow_nan=False).encode())


def tier(value: int) -> None:
    """A small number; databases differ in how large a small integer may be."""
    _must(0 <= value <= MAX_TIER, f"must be 0 to {MAX_TIER}")


def search_keys(value: Any) -> None:
    """A list of `{"name", "from"}`, where `from` is `headers.<name>` or `payload.<JSONPath>`."""
    _must(isinstance(value, list) and len(value) <= 20, "must be a list of at most 20 keys")
    for key in value:
        _must(isinstance(key, dict) and set(key) == {"name", "from"}, 'each must be {"name": ..., "from": ...}')
        _must(
            isinstance(key["name"], str) and bool(KEY_NAME.fullmatch(key["name"])),
            "a name must match [a-z][a-z0-9_.-]*",
        )
        _place(key["from"])
    names = [key["name"] for key in value]
    _must(len(set(names)) == len(names), "must not name the same key twice")


def _place(text: Any) -> None:
    kind, _, rest = text.partition(".") if isinstance(text, str) and len(text) <= 300 else ("", "", "")
    if kind == "payload":
        fault = path_fault(rest, "payload.")
        _must(not fault, fault)
        return
    _must(kind == "headers" and bool(rest), "`from` must be `headers.<name>` or `payload.<JSONPath>`")


def use(value: Any) -> None:
    """At least one of deliver, probe and test."""
    known = isinstance(value, list) and bool(value) and all(item in USES for item in value)
    _must(known and len(set(value)) == len(value), f"must be a list of one or more of {', '.join(USES)}")


def retry_schedule(value: Any) -> None:
    """Seconds before each next try."""
    _must(isinstance(value, list) and 1 <= len(value) <= MAX_RETRIES, f"must be a list of 1 to {MAX_RETRIES} numbers")
    for item in value:
        number = isinstance(item, (int, float)) and not isinstance(item, bool)
        _must(number and 0 <= item <= MAX_RETRY_S, f"each must be a number of 0 to {MAX_RETRY_S} seconds")


def outcomes(value: Any) -> None:
    """Rules that compile, since a rule that does not would fail at the first answer instead of now."""
    compile_rules(value)


def host(value: str) -> None:
    """A name or address in a spelling that every library reads alike."""
    if value:
        normalise_host(value)


def path(value: str) -> None:
    """Empty, or a path of a URL: printable, starting with a slash."""
    _must(not value or bool(PATH.fullmatch(value)), "must start with / and hold no spaces, backslashes or controls")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


CHECKS: dict[type[models.Model], dict[str, Callable[[Any], None]]] = {
    System: {
        "tags": labels,
        "capabilities": labels,
        "accepts_from": labels,
        "metadata": metadata,
        "search_keys": search_keys,
    },
    Endpoint: {
        "use": use,
        "tier": tier,
        "retry_schedule_s": retry_schedule,
        "outcomes": outcomes,
        "host": host,
        "path": path,
    },
    Credential: {},
}


def validate(instance: models.Model) -> None:
    """Raise Malformed with one entry in `errors` per field at fault; uniqueness is not looked at here."""
    errors = _field_errors(instance)
    for field, check in _checks_of(instance):
        if all(error["field"] != field for error in errors):
            errors += _faults(field, check, getattr(instance, field))
    if isinstance(instance, Endpoint) and not {"protocol", "config"} & {error["field"] for error in errors}:
        errors += _config_errors(instance)
    if errors:
        raise invalid(errors)


def _checks_of(instance: models.Model) -> Iterator[tuple[str, Callable[[Any], None]]]:
    for field in instance._meta.concrete_fields:
        if isinstance(field, models.JSONField):
            yield field.name, storable
    yield from CHECKS[type(instance)].items()


def _faults(field: str, check: Callable[[Any], None], value: Any) -> list[dict[str, str]]:
    try:
        check(value)
    except (ValueError, RecursionError) as exc:
        return [{"field": field, "code": "invalid", "detail": str(exc)}]
    except ControlPlaneError as exc:
        return exc.errors or [{"field": field, "code": exc.code, "detail": exc.detail}]
    return []


def invalid(errors: list[dict[str, str]]) -> Malformed:
    """Return the 400 that names these fields."""
    first = errors[0]
    return Malformed(f"{first['field']}: {first['detail']}", code="invalid", errors=errors)


def _field_errors(instance: models.Model) -> list[dict[str, str]]:
    try:
        instance.clean_fields()
    except ValidationError as exc:
        return [
            {"field": field, "code": "invalid", "detail": text}
            for field, texts in exc.message_dict.items()
            for text in texts
        ]
    return []


def _config_errors(endpoint: Endpoint) -> list[dict[str, str]]:
    try:
        validate_config(endpoint.protocol, endpoint.config)
    except ControlPlaneError as exc:
        field = "protocol" if exc.code == "unknown_protocol" else "config"
        return exc.errors or [{"field": field, "code": exc.code, "detail": exc.detail}]
    return list(_protocol_errors(endpoint))


def _protocol_errors(endpoint: Endpoint) -> Iterator[dict[str, str]]:
    """Yield what the protocol cannot do with the fields beside its config."""
    transport = transport_class(endpoint.protocol)
    if transport.NEEDS_HOST and not endpoint.host:
        yield {"field": "host", "code": "required", "detail": f"protocol '{endpoint.protocol}' needs one to connect to"}
    if transport.NEEDS_PORT and endpoint.port is None:
        yield {"field": "port", "code": "required", "detail": f"give a port: '{endpoint.protocol}' has none of its own"}
    uses = [] if _faults("use", use, endpoint.use) else endpoint.use  # what is no list of uses was told already
    if lacking := [one for one in uses if one not in transport.USES]:
        can = ", ".join(transport.USES)
        detail = f"protocol '{endpoint.protocol}' cannot {', '.join(lacking)}; use one or more of {can}"
        yield {"field": "use", "code": "invalid", "detail": detail}
    if endpoint.credential_id is None:
        return
    kind = Credential.objects.filter(pk=endpoint.credential_id).values_list("kind", flat=True).first()
    if kind and (fault := transport.check_credential(kind, endpoint.config)):
        yield {"field": "credential", "code": "invalid", "detail": fault}
