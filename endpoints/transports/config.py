"""Checks an endpoint's `config` against its transport's published JSON Schema."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import jsonschema_rs

from endpoints.errors import Malformed
from endpoints.transports import transport_class


def validate_config(protocol: str, config: Any) -> None:
    """Raise Malformed naming every field at fault; Refused when the protocol itself is unknown."""
    transport = transport_class(protocol)
    schema = transport.CONFIG_SCHEMA
    errors = [entry for error in _validator(protocol).iter_errors(config) for entry in _entries(error, schema)]
    if not errors:
        errors = [_entry(["config", field], "invalid", fault) for field, fault in transport.check_config(config)]
    if errors:
        raise Malformed(f"the config does not fit protocol '{protocol}'", code="bad_config", errors=errors)


def published_schema(protocol: str) -> Mapping[str, Any]:
    """Return the JSON Schema of a protocol's `config`."""
    return transport_class(protocol).CONFIG_SCHEMA


@cache
def _validator(protocol: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(transport_class(protocol).CONFIG_SCHEMA)


def _entries(error: Any, schema: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    """Return one entry per fault; an unknown key is named together with the nearest known one."""
    path = ["config", *map(str, error.instance_path)]
    unexpected = getattr(error.kind, "unexpected", None)
    if unexpected is None:
        return [_entry(path, "invalid", error.message)]
    known = _known_keys(error, schema)
    return [_entry([*path, name], "unknown", _unknown(name, known)) for name in unexpected]


def _known_keys(error: Any, schema: Any) -> list[str]:
    """Return the keys that are known at the place of an `additionalProperties` error."""
    for step in list(error.schema_path)[:-1]:
        schema = schema[step]
    return list(schema.get("properties", {}))


def _unknown(name: str, known: list[str]) -> str:
    nearest = get_close_matches(name, known, 1)
    return f"there is no '{name}'" + (
        f"; did you mean '{nearest[0]}'?" if nearest else f"; known: {', '.join(known) or 'none'}"
    )


def _entry(path: list[str], code: str, detail: str) -> dict[str, str]:
    return {"field": ".".join(path), "code": code, "detail": detail}
