"""A suite from an OpenAPI document: every operation that only reads is asked, and its answer held to its schema."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from testing.assertions.judge import compile_assertion
from testing.document.nodes import plain
from testing.document.yaml_text import read_yaml
from testing.drafting.cleaning import NAMES, Cleaner, unread
from testing.drafting.draft import Draft, finish, slug_of
from testing.drafting.writing import Line
from testing.errors import BadDocument

MOST_BYTES = 4 * 1024 * 1024
MOST_YAML_BYTES = 1024 * 1024
MOST_CASES = 50
MOST_TOLD = 30
DEEPEST = 5
ALIAS = "api"
KEPT = ("type", "enum", "const", "required", "minimum", "maximum", "minItems", "maxItems")
BELOW = ("anyOf", "oneOf", "allOf")
WRITING = ("post", "put", "patch", "delete")
PLACE = re.compile(r"\{([^{}]+)\}")


def read_openapi(body: bytes) -> dict[str, Any]:
    """Return the document in `body`, JSON or YAML; raises Malformed for what is no OpenAPI 3."""
    if len(body) > MOST_BYTES:
        raise _wrong("is larger than 4 MiB")
    try:
        found = strict_json.parse(body) if body.lstrip()[:1] == b"{" else _yaml(body)
    except Malformed as exc:
        raise _wrong(f"is not JSON: {exc.detail}") from exc
    except (BadDocument, UnicodeDecodeError) as exc:
        raise _wrong(f"is not YAML: {exc}") from exc
    version = found.get("openapi") if isinstance(found, dict) else None
    if not isinstance(version, str) or not version.startswith("3.") or not isinstance(found.get("paths"), dict):
        raise _wrong("is no OpenAPI 3 document: it needs `openapi: 3.x` and `paths`")
    return dict(found)


def server_url(document: Mapping[str, Any]) -> str:
    """Return the address of the first server that the document names, "" for none."""
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else {}
    url = first.get("url") if isinstance(first, dict) else ""
    return url if isinstance(url, str) and "{" not in url else ""


def slug_for(document: Mapping[str, Any], target: str) -> str:
    """Return what the suite would best be called."""
    return slug_of(target, "api")


def draft_openapi(document: Mapping[str, Any], target: str, slug: str, cleaner: Cleaner) -> Draft:
    """Return a suite of one case for each reading operation; raises Malformed when there is none to ask."""
    info = document.get("info")
    title = str(info.get("title") or "") if isinstance(info, dict) else ""
    base = PLACE.sub("", _path_of(server_url(document)))
    cases: dict[str, dict[str, Any]] = {}
    left: list[str] = []
    for path, item in document["paths"].items():
        for method, operation in _operations(item):
            name = f"{method.upper()} {path}"
            if method in WRITING:
                left.append(f"{name} (it writes)")
                continue
            found = _case(document, base, str(path), item, operation, cleaner)
            if isinstance(found, str):
                left.append(f"{name} ({found})")
            elif len(cases) < MOST_CASES:
                cases[_free(slug_of(str(operation.get("operationId") or name)), cases)] = found
    if not cases:
        raise _wrong("has no operation that only reads and whose parameters are known from it")
    remarks = [f"Made from the OpenAPI document '{title or 'without a title'}': what only reads is asked."]
    remarks += [f"Left out: {cleaner.said(name)}." for name in left[:MOST_TOLD]]
    remarks += [f"Left out: {len(left) - MOST_TOLD} more."] * (len(left) > MOST_TOLD)
    body = {"systems": {ALIAS: target}, "cases": [{"case": name, **case} for name, case in cases.items()]}
    return finish(slug, title or target, body, remarks, cleaner)


def _operations(item: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(item, dict):
        for method in ("get", *WRITING):
            if isinstance(operation := item.get(method), dict):
                yield method, operation


def _case(
    document: Mapping[str, Any], base: str, path: str, item: Any, operation: Mapping[str, Any], cleaner: Cleaner
) -> dict[str, Any] | str:
    """Return a case that asks one operation, or what is lacking for it."""
    query: dict[str, str] = {}
    for parameter in _parameters(document, item, operation):
        name, where, value = str(parameter.get("name")), parameter.get("in"), _example(document, parameter)
        if where == "path" and value is None:
            return f"no example of {name}"
        if where == "path":
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        elif parameter.get("required") is True and (value is None or where != "query" or NAMES.search(name)):
            return f"no example of {name}" if value is None else f"needs {name}"
        elif parameter.get("required") is True:
            query[name] = str(value)
    if PLACE.search(path):
        return "a part of its path is not described"
    params: dict[str, Any] = {"system": ALIAS, "path": cleaner.text(f"{base}{path}", "path")}
    if query:
        params["query"] = cleaner.fields(query, "query")
    statuses, schema = _answers(document, operation)
    expected = Line(eq=statuses[0]) if len(statuses) == 1 else Line({"in": statuses} if statuses else {"lt": 400})
    assertions: list[Any] = [Line(status=expected)]
    if schema and _can_be_asked(schema):
        assertions.append({"body.$": {"schema": unread(schema)}})
    return {"steps": [{"http": params, "assert": assertions}]}


def _parameters(document: Mapping[str, Any], item: Any, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of an operation; its own win over those of its path."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for given in (item.get("parameters"), operation.get("parameters")):
        for parameter in given if isinstance(given, list) else []:
            known = _followed(document, parameter)
            found[str(known.get("in")), str(known.get("name"))] = known
    return list(found.values())


def _example(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> Any:
    schema = _followed(document, parameter.get("schema"))
    examples = parameter.get("examples")
    first = next(iter(examples.values()), None) if isinstance(examples, dict) else None
    choices = schema.get("enum")
    for value in (
        parameter.get("example"),
        _followed(document, first).get("value"),
        schema.get("example"),
        schema.get("default"),
        choices[0] if isinstance(choices, list) and choices else None,
    ):
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return value
    return None


def _answers(document: Mapping[str, Any], operation: Mapping[str, Any]) -> tuple[list[int], dict[str, Any]]:
    """Return the codes of success, and the schema of the first that has one in JSON."""
    answers = operation.get("responses")
    good = {str(code): answer for code, answer in (answers if isinstance(answers, dict) else {}).items()}
    good = {code: answer for code, answer in good.items() if re.fullmatch("2[0-9]{2}", code)}
    for answer in good.values():
        content = _followed(document, answer).get("content")
        media = content.get("application/json") if isinstance(content, dict) else None
        if len(good) == 1 and isinstance(media, dict) and (schema := _schema(document, media.get("schema"), 0)):
            return [int(code) for code in good], schema
    return [int(code) for code in good], {}


def _schema(document: Mapping[str, Any], given: Any, depth: int) -> dict[str, Any]:
    """Return a schema without references, as deep as a person reads; what is deeper may be anything."""
    known = _followed(document, given)
    if depth > DEEPEST or not known:
        return {}
    found = {name: known[name] for name in KEPT if name in known and not isinstance(known[name], dict)}
    if known.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        found.pop("enum", None)
    if isinstance(properties := known.get("properties"), dict):
        found["properties"] = {name: _schema(document, child, depth + 1) for name, child in properties.items()}
    if isinstance(known.get("items"), dict):
        found["items"] = _schema(document, known["items"], depth + 1)
    for name in BELOW:
        if isinstance(parts := known.get(name), list):
            found[name] = [_schema(document, part, depth + 1) for part in parts]
    # `exclusiveMinimum: true` of OpenAPI 3.0 is no JSON Schema; the bound beside it is kept as it reads there.
    return found


def _followed(document: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Return an object of the document, through the references that stand in its place."""
    for _ in range(DEEPEST):
        if not isinstance(value, dict) or not isinstance(reference := value.get("$ref"), str):
            break
        value = document
        for part in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ["?"]:
            value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _can_be_asked(schema: dict[str, Any]) -> bool:
    try:
        compile_assertion("body.$", {"schema": schema})
    except (ValueError, RecursionError):
        return False
    return True


def _free(name: str, taken: Mapping[str, Any]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name[:58]}-{number}", number + 1
    return found


def _path_of(url: str) -> str:
    """Return the path of a server's address, without a slash at its end."""
    return re.sub(r"^[a-z]+://[^/]*", "", url).split("?")[0].rstrip("/")


def _yaml(body: bytes) -> Any:
    if len(body) > MOST_YAML_BYTES:
        raise _wrong("is larger than 1 MiB; give it as JSON")
    return plain(read_yaml(body.decode()))


def _wrong(detail: str) -> Malformed:
    said = f"the document {detail}"
    return Malformed(f"openapi: {said}", errors=[{"field": "openapi", "code": "invalid", "detail": said}])
