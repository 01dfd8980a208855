"""An OpenAPI document as the operations that can be asked of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
DEEPEST = 30
JSON = ("application/json", "+json")


class BadDocument(ValueError):
    """This cannot be read as an OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Parameter:
    place: str  # path, query or header
    name: str
    required: bool
    schema: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; `responses` are by status as written (`200`, `4XX`, `default`), then by media type."""

    method: str
    path: str
    id: str
    parameters: Sequence[Parameter] = ()
    body: Any = None
    body_required: bool = False
    responses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unmade: str = ""  # why no request can be made of it

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


class Document:
    """An OpenAPI 3 document; references lead only within it."""

    def __init__(self, root: Any) -> None:
        if not isinstance(root, dict) or not str(root.get("openapi", "")).startswith("3."):
            raise BadDocument("this is no OpenAPI 3 document")
        self.root = root

    def resolve(self, value: Any) -> Any:
        """Return what a `$ref` leads to, or the value itself; raises BadDocument."""
        for _ in range(DEEPEST):
            if not isinstance(value, dict) or "$ref" not in value:
                return value
            value = self._at(value["$ref"])
        raise BadDocument("a $ref leads in a circle")

    def _at(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#/"):
            raise BadDocument(f"$ref {ref!r:.100} leads out of the document")
        found = self.root
        for part in ref[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise BadDocument(f"$ref {ref[:100]} leads nowhere")
            found = found[name]
        return found

    @property
    def base(self) -> str:
        """Return the path below which all of it is, of the first server that is named."""
        servers = self.root.get("servers") or [{}]
        url = servers[0].get("url", "") if isinstance(servers[0], dict) else ""
        return "" if "{" in url else urlsplit(url).path.rstrip("/")

    def operations(self) -> Iterator[Operation]:
        """Yield every operation; raises BadDocument."""
        paths = self.root.get("paths") or {}
        for path, item in paths.items() if isinstance(paths, dict) else ():
            known = self.resolve(item)
            for method in METHODS:
                if isinstance(known, dict) and isinstance(known.get(method), dict):
                    yield self._operation(method.upper(), str(path), known, known[method])

    def _operation(self, method: str, path: str, item: Mapping[str, Any], written: Mapping[str, Any]) -> Operation:
        found = [self.resolve(one) for one in [*(item.get("parameters") or []), *(written.get("parameters") or [])]]
        # One of the operation stands instead of one of the path.
        parameters = {(str(one.get("in")), str(one.get("name"))): one for one in found if isinstance(one, dict)}
        body = self.resolve(written.get("requestBody") or {})
        schema = _json_schema(body.get("content") or {})
        cannot = "" if schema is not None or not body.get("content") else "its body is not JSON"
        return Operation(
            method,
            path,
            str(written.get("operationId") or ""),
            [
                Parameter(place, name, bool(one.get("required")) or place == "path", one.get("schema", {}))
                for (place, name), one in parameters.items()
                if place in ("path", "query", "header")
            ],
            schema,
            bool(body.get("required")),
            {str(status): self._content(one) for status, one in (written.get("responses") or {}).items()},
            cannot if body.get("required") else "",
        )

    def _content(self, response: Any) -> dict[str, Any]:
        content = self.resolve(response).get("content") or {}
        return {
            str(media).partition(";")[0].strip().lower(): (one or {}).get("schema") for media, one in content.items()
        }


def is_json(media: str) -> bool:
    return media.endswith(JSON)


def _json_schema(content: Mapping[str, Any]) -> Any:
    """Return the schema of a body that is JSON, None when it cannot be."""
    for media, one in content.items():
        if is_json(str(media).partition(";")[0].strip().lower()):
            return (one or {}).get("schema", {})
    return None
