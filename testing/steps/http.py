"""`http:` one request over the transport that deliveries use, with the endpoint's address and credential."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import orjson

from testing.assertions.observation import Observation
from testing.document.kinds import ANYTHING, VALUE, Field, Kind, MapOf, Shape, choice, text
from testing.document.references import as_text
from testing.steps.asking import Question, ask, planned
from testing.steps.base import CannotRun, StepAction, Tools

NOT_GIVEN = object()
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
ANY_NAME = re.compile(r"[^\x00-\x1f]{1,200}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpStep(StepAction):
    """Every answer is seen, whatever its status; redirects are not followed."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "method": Field(choice(*METHODS, fixed=False), "GET unless there is a body."),
            "path": Field(text(4000), "From `/`: instead of the endpoint's path; else below it."),
            "query": Field(MapOf(VALUE, ANY_NAME), "Added to the path, encoded.", default={}),
            "headers": Field(MapOf(VALUE, HEADER), "Added to the endpoint's own.", default={}),
            "json": Field(ANYTHING, "A body of JSON.", default=NOT_GIVEN),
            "body": Field(text(1024 * 1024), "A body of text.", default=NOT_GIVEN),
            "auth": Field(
                choice("endpoint", "none"), "`none` leaves the endpoint's credential out.", default="endpoint"
            ),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("status", "headers", "body", "text", "bytes", "size", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)
    REPEATS: ClassVar[bool] = True

    def writes(self, params: Any) -> bool:
        return _method(params) not in SAFE

    async def run(self, params: Any, tools: Tools) -> Observation:
        with_credential = params["auth"] != "none"
        return await ask(tools, params["system"], _question(params), with_credential=with_credential)

    async def repeated(self, params: Any, tools: Tools, timeout_s: float) -> Callable[[], Awaitable[Observation]]:
        """Return what makes the same request again; the connection holds the deadline, which costs nothing."""
        with_credential = params["auth"] != "none"
        return await planned(tools, params["system"], _question(params), timeout_s, with_credential=with_credential)


def _question(params: Mapping[str, Any]) -> Question:
    headers, body = _content(params)
    query = {name: as_text(value) for name, value in params["query"].items()}
    return Question(_method(params), params["path"] or "", query, headers, body)


def _method(params: Mapping[str, Any]) -> str:
    given = params["json"] is not NOT_GIVEN or params["body"] is not NOT_GIVEN
    return str(params["method"] or ("POST" if given else "GET"))


def _content(params: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body; a content type of the author's own wins."""
    headers = {name.lower(): as_text(value) for name, value in params["headers"].items()}
    if params["json"] is not NOT_GIVEN and params["body"] is not NOT_GIVEN:
        raise CannotRun("json and body are both given")
    if params["json"] is not NOT_GIVEN:
        return {"content-type": "application/json", **headers}, orjson.dumps(params["json"])
    if params["body"] is not NOT_GIVEN:
        return {"content-type": "text/plain; charset=utf-8", **headers}, str(params["body"]).encode()
    return headers, b""
