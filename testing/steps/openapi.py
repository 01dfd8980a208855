"""`openapi:` requests made of a system's own OpenAPI document, at random but the same for a seed, and their answers."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed
from testing.assertions.observation import Observation
from testing.document.kinds import (
    ANYTHING,
    BOOLEAN,
    DURATION_S,
    Field,
    Kind,
    ListOf,
    Shape,
    choice,
    integer,
    text,
)
from testing.document.nodes import plain
from testing.document.yaml_text import read_yaml
from testing.fuzzing.checks import BY_DEFAULT, CHECKS
from testing.fuzzing.operations import BadDocument, Document, Operation
from testing.fuzzing.requests import Made, make
from testing.fuzzing.values import Maker
from testing.steps.asking import Question, as_json, ask, refuse
from testing.steps.base import CannotRun, StepAction, Tools
from testing.steps.http import SAFE

MAX_DOCUMENT, MAX_YAML = 8 * 1024 * 1024, 1024 * 1024
MOST_FAILURES = 50
SHOWN = 500


class OpenapiStep(StepAction):
    """Fails by itself when an answer is wrong: `rows` are the failures, `body` has how many were asked, and them.

    Without `write: true` only GET, HEAD and OPTIONS are asked. What was not asked is in `body.$.skipped`.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "schema": Field(text(4000), "The path of its document, JSON or YAML."),
            "document": Field(ANYTHING, "The document itself."),
            "operations": Field(
                ListOf(text(300), at_most=200), "Operation ids, or `GET /orders/*`; all without.", default=[]
            ),
            "base": Field(text(1000), "The path before all of them, instead of the document's first server's."),
            "write": Field(BOOLEAN, "Ask what may change something, too.", default=False),
            "examples": Field(integer(1, 200), "Requests of each operation.", default=10),
            "wrong": Field(BOOLEAN, "Make every third wrong in one place: refused it may be.", default=True),
            "max_requests": Field(integer(1, 10_000), "The most in all.", default=500),
            "at_once": Field(integer(1, 32), "How many at a time.", default=4),
            "within": Field(DURATION_S, "Begin no request after so long.", default=20.0),
            "seed": Field(integer(0, 2**31), "The same makes the same requests.", default=1),
            "checks": Field(
                ListOf(choice(*CHECKS, fixed=False), at_least=1), "What to look at.", default=list(BY_DEFAULT)
            ),
            "auth": Field(
                choice("endpoint", "none"), "`none` leaves the endpoint's credential out.", default="endpoint"
            ),
        },
        one_of=("schema", "document"),
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("rows", "body", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)
    JUDGES: ClassVar[bool] = True

    def writes(self, params: Any) -> bool:
        return bool(params["write"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        started = time.perf_counter()
        try:
            document = Document(params["document"] or await _fetched(params, tools))
            chosen, skipped = _chosen(document, params)
            requests = _in_turn(
                [make(one, _maker(document, one, params), params["examples"], wrong=params["wrong"]) for one in chosen]
            )
            fuzz = _Fuzz(document, params, tools)
            await fuzz.run(requests)
        except (BadDocument, RecursionError, TypeError, AttributeError, LookupError) as exc:
            raise CannotRun(f"the OpenAPI document cannot be used: {exc}") from exc
        if not fuzz.asked:
            raise CannotRun("no operation was asked: none is chosen, or none may be without write: true")
        skipped |= {one.name: "no time was left" for one in chosen if one.name not in fuzz.operations}
        failures = list(fuzz.failures.values())
        told = {"operations": len(fuzz.operations), "requests": fuzz.asked, "skipped": skipped, "failures": failures}
        seen = Observation((time.perf_counter() - started) * 1000, rows=failures, body=as_json(told))
        seen.request = {name: params[name] for name in ("schema", "operations", "examples", "seed", "write")}
        if not failures:
            return seen
        first = failures[0]
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return refuse(seen, "nack", first["check"], f"{first['operation']}: {first['detail']}{more}")


class _Fuzz:
    """Makes requests, so many at once, and keeps the first of each kind of failure."""

    def __init__(self, document: Document, params: Mapping[str, Any], tools: Tools) -> None:
        self._document, self._params, self._tools = document, params, tools
        self._until = time.perf_counter() + params["within"]
        self._base = (params["base"] if params["base"] is not None else document.base).rstrip("/")
        self.asked = 0
        self.operations: set[str] = set()
        self.failures: dict[tuple[str, str, Any], dict[str, Any]] = {}

    async def run(self, requests: Iterator[Made]) -> None:
        """Make them all; raises what the first that cannot be made raises."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._params["at_once"]):
                    group.create_task(self._work(requests))
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from exc

    async def _work(self, requests: Iterator[Made]) -> None:
        for made in requests:
            if self.asked >= self._params["max_requests"] or time.perf_counter() >= self._until:
                return
            self.asked += 1
            self.operations.add(made.operation.name)
            path = self._base + made.path
            question = Question(made.operation.method, path, {}, made.headers, made.body)
            with_credential = self._params["auth"] != "none"
            seen = await ask(self._tools, self._params["system"], question, with_credential=with_credential)
            for check in self._params["checks"]:
                if wrong := CHECKS[check](self._document, made, seen):
                    self._note(made, path, check, wrong, seen)

    def _note(self, made: Made, path: str, check: str, wrong: str, seen: Observation) -> None:
        key = (made.operation.name, check, seen.status)
        if key in self.failures:
            self.failures[key]["times"] += 1
        elif len(self.failures) < MOST_FAILURES:
            self.failures[key] = {
                "operation": made.operation.name,
                "check": check,
                "detail": wrong[:SHOWN],
                "status": seen.status,
                "spoiled": made.spoiled or None,
                "times": 1,
                "request": {
                    "method": made.operation.method,
                    "path": path,
                    "body": made.body[:SHOWN].decode("utf-8", "replace"),
                },
                "answer": (seen.body or b"")[:SHOWN].decode("utf-8", "replace"),
            }


async def _fetched(params: Mapping[str, Any], tools: Tools) -> Any:
    """Return the document that the system shows; raises CannotRun."""
    with_credential = params["auth"] != "none"
    question = Question("GET", params["schema"], {}, {"accept": "application/json, application/yaml;q=0.9"})
    seen = await ask(tools, params["system"], question, with_credential=with_credential, most=MAX_DOCUMENT)
    if seen.status != 200 or seen.truncated or seen.body is None:
        told = seen.error or f"status {seen.status}{', and it is too long' if seen.truncated else ''}"
        raise CannotRun(f"the OpenAPI document cannot be had: {told}", seen.error_class)
    try:
        if seen.body.lstrip()[:1] == b"{":
            return strict_json.parse(seen.body)
        if len(seen.body) > MAX_YAML:
            raise BadDocument("as YAML it is too long; show it as JSON")
        return plain(read_yaml(seen.body.decode()))
    except (Malformed, ControlPlaneError, UnicodeDecodeError) as exc:
        raise BadDocument(str(exc)[:300]) from exc


def _chosen(document: Document, params: Mapping[str, Any]) -> tuple[list[Operation], dict[str, str]]:
    """Return the operations to ask, and why the others are not."""
    chosen, skipped = [], {}
    for one in document.operations():
        if params["operations"] and not any(_names(pattern, one) for pattern in params["operations"]):
            continue
        if one.method not in SAFE and not params["write"]:
            skipped[one.name] = "it may change something; say write: true"
        elif one.unmade:
            skipped[one.name] = one.unmade
        else:
            chosen.append(one)
    return chosen, skipped


def _names(pattern: str, one: Operation) -> bool:
    return pattern == one.id or fnmatchcase(one.name, pattern)


def _maker(document: Document, one: Operation, params: Mapping[str, Any]) -> Maker:
    """Return a maker of the operation's own: another operation more or less changes none of its requests."""
    return Maker(document, f"{params['seed']} {one.name}")


def _in_turn(several: list[Iterator[Made]]) -> Iterator[Made]:
    """Yield one of each, and again: with little time each operation gets some of it."""
    while several:
        for one in list(several):
            made = next(one, None)
            if made is None:
                several.remove(one)
            else:
                yield made
