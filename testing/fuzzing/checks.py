"""What may be wrong with an answer, one row each: a check returns what is wrong, "" when nothing is."""

from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from testing.assertions.observation import Observation
from testing.fuzzing.operations import Document, is_json
from testing.fuzzing.requests import Made

Check = Callable[[Document, Made, Observation], str]
NO_BODY = (204, 304)


def _no_answer(document: Document, made: Made, seen: Observation) -> str:
    return f"{seen.error_class}: {seen.error}" if seen.no_answer else ""


def _server_error(document: Document, made: Made, seen: Observation) -> str:
    return f"status {seen.status}" if isinstance(seen.status, int) and seen.status >= 500 else ""


def _status(document: Document, made: Made, seen: Observation) -> str:
    if seen.status is None or seen.status >= 500 or documented(made, seen.status) is not None:
        return ""
    if made.spoiled and 400 <= seen.status < 500:
        return ""  # what is wrong may be refused as one likes
    return f"status {seen.status} is not documented; there are {', '.join(made.operation.responses) or 'none'}"


def _content_type(document: Document, made: Made, seen: Observation) -> str:
    known, media = documented(made, seen.status), _media(seen)
    if not known or not seen.body or seen.status in NO_BODY or "*/*" in known:
        return ""
    return "" if media in known else f"content type '{media}' is not documented; there are {', '.join(known)}"


def _schema(document: Document, made: Made, seen: Observation) -> str:
    known = documented(made, seen.status) or {}
    schema = known.get(_media(seen), known.get("*/*"))
    if schema is None or not seen.body or seen.truncated or not is_json(_media(seen)):
        return ""
    try:
        value = strict_json.parse(seen.body)
    except Malformed as exc:
        return f"the body is no JSON: {exc}"
    try:
        error = next(iter(validator(document, schema).iter_errors(value)), None)
    except ValueError as exc:
        return f"the document's schema cannot be used: {str(exc)[:200]}"
    if error is None:
        return ""
    where = "/".join(map(str, error.instance_path))
    return f"the body does not fit its schema at /{where}: {error.message[:300]}"


def _accepted(document: Document, made: Made, seen: Observation) -> str:
    if not made.spoiled or seen.status is None or not 200 <= seen.status < 300 or made.spoiled != "body":
        return ""
    try:
        is_valid = validator(document, made.operation.body).is_valid(strict_json.parse(made.body))
    except (ValueError, Malformed):
        return ""
    return "" if is_valid else f"status {seen.status} to a body that does not fit the document"


CHECKS: dict[str, Check] = {
    "no_answer": _no_answer,
    "server_error": _server_error,
    "status": _status,
    "content_type": _content_type,
    "schema": _schema,
    "accepted": _accepted,
}
BY_DEFAULT = ("no_answer", "server_error", "status", "content_type", "schema")


def documented(made: Made, status: Any) -> Mapping[str, Any] | None:
    """Return what is documented of a status, by media type; None when it is not."""
    responses = made.operation.responses
    return next(
        (responses[name] for name in (str(status), f"{str(status)[:1]}XX", "default") if name in responses), None
    )


def validator(document: Document, schema: Any) -> jsonschema_rs.Draft202012Validator:
    """Return the validator of a schema of the document; raises ValueError when it is none."""
    kept: dict[int, jsonschema_rs.Draft202012Validator] = document.__dict__.setdefault("validators", {})
    if id(schema) not in kept:
        root = {"components": document.root.get("components") or {}, "allOf": [schema]}
        try:
            kept[id(schema)] = jsonschema_rs.Draft202012Validator(
                nulls(root), retriever=_nowhere, pattern_options=jsonschema_rs.RegexOptions()
            )
        except jsonschema_rs.ReferencingError as exc:
            raise ValueError(str(exc)) from exc
    return kept[id(schema)]


def nulls(schema: Any, depth: int = 0) -> Any:
    """Return a schema of OpenAPI 3.0 as 3.1 has it: what is nullable may be null."""
    if depth > 100:
        raise ValueError("it is nested too deep")
    if isinstance(schema, list):
        return [nulls(item, depth + 1) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: nulls(value, depth + 1) for name, value in schema.items() if name not in ("nullable", "example")}
    for name in ("Minimum", "Maximum"):  # of 3.0 a boolean beside the bound
        if found.get(f"exclusive{name}") in (True, False):
            bound = found.pop(f"exclusive{name}")
            if bound and name.lower() in found:
                found[f"exclusive{name}"] = found.pop(name.lower())
    return {"anyOf": [found, {"type": "null"}]} if schema.get("nullable") is True else found


def _media(seen: Observation) -> str:
    given = next((value for name, value in (seen.headers or {}).items() if name.lower() == "content-type"), "")
    return given.partition(";")[0].strip().lower()


def _nowhere(uri: str) -> Any:
    raise ValueError(f"a schema refers to {uri}, out of the document")
