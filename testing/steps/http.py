"""`http:` one request over the transport that deliveries use, with the endpoint's address and credential."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import orjson

from endpoints.transports.base import ErrorClass, Reply, TransportError
from endpoints.transports.http import HttpTransport
from testing.assertions.observation import Observation
from testing.document.kinds import ANYTHING, VALUE, Field, Kind, MapOf, Shape, choice, text
from testing.document.references import as_text
from testing.steps.base import CannotRun, StepAction, Tools

NOT_GIVEN = object()
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
ANY_NAME = re.compile(r"[^\x00-\x1f]{1,200}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_REPLY_BYTES = 1024 * 1024
LONGEST_S = 7 * 86400.0  # the endpoint's own timeout comes first, and the step's
# Of these we are the cause: nothing was asked, so nothing is said of the other side.
OURS = frozenset({ErrorClass.BLOCKED_ADDRESS, ErrorClass.TRANSFORM, ErrorClass.INTERNAL})


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

    def writes(self, params: Any) -> bool:
        return _method(params) not in SAFE

    async def run(self, params: Any, tools: Tools) -> Observation:
        return await (await self.repeated(params, tools, LONGEST_S))()

    async def repeated(self, params: Any, tools: Tools, timeout_s: float) -> Callable[[], Awaitable[Observation]]:
        """Return what makes the same request again; the connection holds the deadline, which costs nothing."""
        transport = await tools.transport(params["system"], with_credential=params["auth"] != "none")
        if not isinstance(transport, HttpTransport):
            raise CannotRun(f"'{params['system']}' does not speak http")
        headers, body = _content(params)
        query = {name: as_text(value) for name, value in params["query"].items()}
        try:
            request = transport.plan(_method(params), params["path"] or "", query, headers, body)
        except TransportError as exc:
            return _never(exc)

        async def again() -> Observation:
            try:
                return _seen(await transport.ask_planned(request, max_bytes=MAX_REPLY_BYTES, timeout_s=timeout_s))
            except TransportError as exc:
                if exc.error_class in OURS:
                    raise CannotRun(exc.detail, exc.error_class.value) from exc
                return _failed(exc)

        return again


def _never(exc: TransportError) -> Callable[[], Awaitable[Observation]]:
    """Return what says of a request that could not even be planned why."""

    async def again() -> Observation:
        if exc.error_class in OURS:
            raise CannotRun(exc.detail, exc.error_class.value) from exc
        return _failed(exc)

    return again


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


def _seen(reply: Reply) -> Observation:
    return Observation(
        latency_ms=reply.took_ms,
        status=reply.status_code,
        headers=reply.headers,
        body=reply.body,
        truncated=reply.truncated,
        phases_ms=reply.phases_ms,
        request=reply.request,
    )


def _failed(exc: TransportError) -> Observation:
    return Observation(
        latency_ms=sum(exc.phases_ms.values()),
        phases_ms=exc.phases_ms,
        error_class=exc.error_class.value,
        error=exc.detail,
        request=exc.request,
        no_answer=True,
    )
