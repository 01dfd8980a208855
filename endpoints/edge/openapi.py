"""What the OpenAPI document says of every operation alike: how it can fail, and in which shape."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "The stable name of what went wrong."},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
            },
        },
    },
}
# Every operation can end so; 413, 415 and 422 only where a body is read.
ANSWERS = {
    "400": "Malformed, or an unknown or bad field, filter or ordering.",
    "401": "No key or session, or one that is not valid.",
    "403": "The role does not suffice.",
    "404": "Nothing there, or another team's.",
    "405": "Another method is meant.",
    "406": "Another answer format than JSON was asked for.",
    "409": "Not possible in this state.",
    "413": "The body is too large.",
    "415": "Another content type is meant.",
    "422": "Well-formed, but refused by a rule.",
    "429": "Too many requests; see Retry-After.",
    "503": "Full or a dependency is away; see Retry-After.",
}


class Schema(AutoSchema):
    """Adds the failures to what the view and its serializer already say."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation:
            for status, text in ANSWERS.items():
                operation["responses"].setdefault(status, _answer(text))
        return operation


def _answer(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def add_problem(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Put the shape of a problem into the document's components (a post-processing hook)."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    return result


class KeyScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes keys and tokens."""

    target_class = "endpoints.access.rest.KeyAuthentication"
    name = ["bearer", "api_key"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key (`cp_...`) or a JWT."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "endpoints.access.rest.PageSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
