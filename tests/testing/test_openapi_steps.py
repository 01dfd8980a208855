"""The step `openapi`: requests of a document, against a server that keeps to it, and one that does not in one place."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.endpoints.conftest import Caller
from tests.servers.http import Answer, HttpReceiver, Received
from tests.testing.conftest import Outcome, answer
from tests.testing.targets import register_http

Run = Callable[..., Outcome]
ORDER = {
    "type": "object",
    "required": ["id", "state"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "state": {"enum": ["new", "paid"]},
        "note": {"type": "string", "nullable": True},
        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}},
    },
}
PAGE = {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 9}}
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1, "maximum": 99}}
REF = {"$ref": "#/components/schemas/Order"}


def content(schema: Any) -> dict[str, Any]:
    return {"description": "", "content": {"application/json": {"schema": schema}}}


DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "Orders", "version": "1"},
    "servers": [{"url": "/v1"}],
    "components": {"schemas": {"Order": ORDER}},
    "paths": {
        "/orders": {
            "get": {"parameters": [PAGE], "responses": {"200": content({"type": "array", "items": REF})}},
            "post": {"requestBody": {"required": True, **content(REF)}, "responses": {"201": content(REF)}},
        },
        "/orders/{id}": {
            "parameters": [ID],
            "get": {"operationId": "one", "responses": {"200": content(REF), "404": {"description": ""}}},
            "delete": {"responses": {"204": {"description": ""}}},
        },
    },
}
GOOD = {"id": 1, "state": "new", "note": None, "parts": [{"id": 2, "state": "paid"}]}


def fits(order: Any) -> bool:
    """Say whether a body is an Order, by hand: the step's own reading of the schema is what is under test."""
    if not isinstance(order, dict) or order.get("state") not in ("new", "paid"):
        return False
    if type(order.get("id")) is not int or order["id"] < 1 or not isinstance(order.get("note"), str | None):
        return False
    parts = order.get("parts", [])
    return isinstance(parts, list) and all(map(fits, parts))


def server(**wrong: Callable[[Received], Answer]) -> Callable[[Received], Answer]:
    """Return what answers as documented, but where `wrong` has something else for `<method>` of the path."""

    def respond(request: Received) -> Answer:
        url = urlsplit(request.path)
        if url.path == "/openapi.json":
            return answer(200, DOCUMENT)
        kind = request.method.lower() + ("_one" if url.path.count("/") > 2 else "")
        if kind in wrong:
            return wrong[kind](request)
        if request.method == "GET":
            if kind == "get_one":
                return answer(200, GOOD) if url.path.rsplit("/", 1)[1].isdigit() else answer(400, {})
            return answer(200, [GOOD])
        if request.method == "DELETE":
            return Answer(204)
        return answer(201, GOOD) if fits(json.loads(request.body or b"0")) else answer(422, {})

    return respond


@pytest.fixture
def shop(admin: Caller, http_receiver: HttpReceiver) -> HttpReceiver:
    register_http(admin, "shop", http_receiver.port, "service")
    http_receiver.answer(server())
    return http_receiver


def suite(more: str = "", tail: str = "") -> str:
    step = f"{{openapi: {{system: api, schema: /openapi.json{more}}}{tail}}}"
    return f"suite: fuzz\nsystems: {{api: shop}}\ncases:\n  - {{case: c, steps: [{step}]}}\n"


def test_a_server_that_keeps_to_its_document_passes(run: Run, shop: HttpReceiver) -> None:
    """Right and wrong requests of every operation that may be asked; the same seed makes the same ones."""
    done = run(suite(", write: true", ", assert: [{body.$.operations: {eq: 4}}, {body.$.requests: {gte: 31}}]"))
    first = [(found.method, found.path, found.body) for found in shop.received]
    shop.clear()
    run(suite(", write: true, at_once: 1"))
    again = [(found.method, found.path, found.body) for found in shop.received]

    assert done.code == 0, done.out
    assert sorted(first) == sorted(again)
    assert all(path.startswith("/v1/orders") for _, path, _ in first[1:])


def test_what_may_change_something_is_not_asked_without_leave(run: Run, shop: HttpReceiver) -> None:
    """It is said what was left out; to have asked nothing at all is no success."""
    skipped = """{'body.$.skipped["POST /orders"]': {search: 'write: true'}}"""
    done = run(suite("", f", assert: [{skipped}]"))
    nothing = run(suite(", operations: ['DELETE *']"))

    assert done.code == 0, done.out
    assert {found.method for found in shop.received} == {"GET"}
    assert (nothing.code, nothing.verdict) == (2, "errored")


def one_in(number: int, odd: Answer, usual: Answer) -> Callable[[Received], Answer]:
    seen = iter(range(10_000))
    return lambda request: odd if next(seen) % number == number - 1 else usual


@pytest.mark.parametrize(
    ("wrong", "check", "told"),
    [
        ({"get": one_in(3, answer(500, {}), answer(200, []))}, "server_error", "GET /orders: status 500"),
        ({"get": lambda request: answer(302, [])}, "status", "status 302 is not documented; there are 200"),
        ({"get": lambda request: Answer(200, b"[]", {"Content-Type": "text/html"})}, "content_type", "'text/html'"),
        ({"get_one": lambda request: answer(200, GOOD | {"state": "lost"})}, "schema", "at /state"),
        ({"get_one": lambda request: answer(200, GOOD | {"parts": [{"id": 0}]})}, "schema", "at /parts/0"),
        ({"post": lambda request: answer(201, GOOD)}, "accepted", "does not fit the document"),
    ],
)
def test_each_check_finds_what_it_is_for(
    run: Run, shop: HttpReceiver, wrong: dict[str, Any], check: str, told: str
) -> None:
    """The failure names the operation and what was wrong, and holds the request that showed it."""
    shop.answer(server(**wrong))
    done = run(
        suite(", write: true, examples: 30, checks: [no_answer, server_error, status, content_type, schema, accepted]")
    )
    body = json.loads(done.cases["c"]["steps"][0]["attempts"][0]["response"]["body"])

    assert (done.code, done.verdict) == (1, "failed"), done.out
    assert told in done.cases["c"]["reason"]
    assert {failure["check"] for failure in body["failures"]} == {check}
    assert body["failures"][0]["request"]["path"].startswith("/v1/orders")


BAD = (
    '{"swagger": "2.0"}',
    '{"openapi": "3.1.0", "paths": {"/a": {"get": {"parameters": [{"$ref": "#/components/gone"}]}}}}',
    '{"openapi": "3.1.0", "paths": {"/a": {"get": {"parameters": [{"$ref": "http://127.0.0.1/x"}]}}}}',
    '{"openapi": "3.1.0", "paths": [1], "x": {"$ref": "#/x"}}',
    '{"openapi": "3.1.0", "paths": {"/a": {"get": {"parameters": 7}}}}',
    "not: [an openapi",
    "a: &a [1]\nb: *a",
    '{"openapi": "3.1.0", "paths": {"/a": {"get": {"parameters": [{"in": "query", "name": "q", "required": true,'
    ' "schema": {"$ref": "#/loop"}}]}}}, "loop": {"$ref": "#/loop"}}',
)


def test_a_document_that_cannot_be_read_is_no_success(run: Run, shop: HttpReceiver) -> None:
    """It comes from outside: whatever is wrong with it is told, and nothing it refers to is fetched."""
    cases = ""
    for number, document in enumerate(BAD):
        shop.answer_at(f"/{number}", Answer(200, document.encode(), {"Content-Type": "application/json"}))
        cases += f"  - {{case: c{number}, steps: [{{openapi: {{system: api, schema: /{number}}}}}]}}\n"
    done = run(f"suite: fuzz\nsystems: {{api: shop}}\ncases:\n{cases}")

    assert set(done.verdicts.values()) == {"errored"}, done.out
    told = [case["reason"] for case in done.cases.values()]
    assert all("OpenAPI" in each or "no operation was asked" in each for each in told), told
    assert len(shop.received) == len(BAD)
