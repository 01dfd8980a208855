"""`graphql:` one operation over HTTP; what it answers is judged by its errors, not by its status."""

import re
from typing import Any, ClassVar

from testing.assertions.observation import Observation
from testing.document.kinds import ANYTHING, VALUE, Field, Kind, MapOf, Shape, choice, text
from testing.document.references import as_text
from testing.steps.asking import Question, as_json, ask, json_of, refuse
from testing.steps.base import CannotRun, StepAction, Tools
from testing.steps.http import HEADER

ACCEPT = "application/graphql-response+json, application/json"
# Texts and comments may hold any word; what is left may hold one of these only as what it is, or as a field's name.
# A lone CR ends a line as well, and in a block text a backslash escapes three quotes only (GraphQL, 2.1.2 and 2.9.4).
UNSAID = re.compile(
    r'"""(?:\\"""|(?!""").)*+"""'  # a block text
    r'|"(?:[^"\\\n\r]|\\[^\n\r])*+"'  # a text
    r"|#[^\n\r]*",
    re.DOTALL,
)
OPERATION = re.compile(r"\b(mutation|subscription)\b")


class GraphqlStep(StepAction):
    """`body` is the whole answer. One with `errors` is a refusal: only an assertion about the error passes over it.

    `error.code` is the `extensions.code` of the first.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "query": Field(text(64 * 1024), "The document.", required=True),
            "variables": Field(MapOf(ANYTHING), "Its variables.", default={}),
            "operation": Field(text(200), "Which operation of the document."),
            "path": Field(text(4000), "Instead of the endpoint's path, or below it."),
            "headers": Field(MapOf(VALUE, HEADER), "Added to the endpoint's own.", default={}),
            "auth": Field(
                choice("endpoint", "none"), "`none` leaves the endpoint's credential out.", default="endpoint"
            ),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("status", "headers", "body", "text", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    def writes(self, params: Any) -> bool:
        return bool(OPERATION.search(UNSAID.sub(" ", params["query"])))

    async def run(self, params: Any, tools: Tools) -> Observation:
        found = OPERATION.search(UNSAID.sub(" ", params["query"]))
        if found is not None and found[1] == "subscription":
            raise CannotRun("a subscription has no single answer; use websocket")
        body: dict[str, Any] = {"query": params["query"], "variables": params["variables"]}
        if params["operation"]:
            body["operationName"] = params["operation"]
        headers = {name.lower(): as_text(value) for name, value in params["headers"].items()}
        headers = {"content-type": "application/json", "accept": ACCEPT} | headers
        question = Question("POST", params["path"] or "", {}, headers, as_json(body))
        seen = await ask(tools, params["system"], question, with_credential=params["auth"] != "none")
        if seen.no_answer:
            return seen
        answer = json_of(seen)
        if seen.no_answer:
            return seen
        if not isinstance(answer, dict) or not {"data", "errors"} & set(answer):
            return refuse(seen, "protocol", "not_graphql", f"status {seen.status}, with neither data nor errors")
        return _refused(seen, answer["errors"]) if answer.get("errors") else seen


def _refused(seen: Observation, errors: Any) -> Observation:
    first = errors[0] if isinstance(errors, list) and isinstance(errors[0], dict) else {}
    extensions = first.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return refuse(seen, "client_error", str(code or "error")[:100], str(first.get("message") or errors)[:500])
