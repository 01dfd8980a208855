"""One operation's requests: most as documented, some wrong in one place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from testing.fuzzing.operations import Operation
from testing.fuzzing.values import Maker

LONGEST = 400  # of a value in a path, query or header
DOTS = (".", "..")
HEADER = re.compile(r"[A-Za-z0-9_-]{1,100}")
# Some are the credential's or the body's to set (OpenAPI says so), the others the connection's.
NOT_TO_SET = frozenset(
    {
        *("accept", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization", "proxy-connection"),
    }
)


@dataclass(frozen=True, slots=True)
class Made:
    """A request to make; `spoiled` names the place that was made wrong on purpose, if one was."""

    operation: Operation
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    spoiled: str = ""


def make(operation: Operation, maker: Maker, count: int, *, wrong: bool) -> Iterator[Made]:
    """Yield requests; with `wrong` every third has something wrong, as far as there is anything to get wrong."""
    places = [parameter.name for parameter in operation.parameters] + (["body"] if operation.body is not None else [])
    for number in range(count):
        spoiled = maker.random.choice(places) if wrong and places and number % 3 == 2 else ""
        yield _one(operation, maker, spoiled)


def _one(operation: Operation, maker: Maker, spoiled: str) -> Made:
    path, query, headers = operation.path, [], {}
    for parameter in operation.parameters:
        is_wrong = parameter.name == spoiled
        if not (parameter.required or is_wrong or maker.random.random() < 0.5):
            continue
        value = maker.fit(parameter.schema)
        text = as_text(maker.spoil(parameter.schema, value) if is_wrong else value)
        if parameter.place == "path":
            # An empty one, or one of dots, would lead to another path.
            path = path.replace(f"{{{parameter.name}}}", quote("x" if text in ("", *DOTS) else text, safe=""))
        elif parameter.place == "query":
            query.append((parameter.name, text))
        elif HEADER.fullmatch(parameter.name) and parameter.name.lower() not in NOT_TO_SET:
            headers[parameter.name.lower()] = "".join(char for char in text if " " <= char <= "~").strip()
    body = b""
    if operation.body is not None and (operation.body_required or spoiled == "body" or maker.random.random() < 0.9):
        value = maker.fit(operation.body)
        body = orjson.dumps(maker.spoil(operation.body, value) if spoiled == "body" else value)
        headers["content-type"] = "application/json"
    return Made(operation, f"{path}?{urlencode(query)}" if query else path, headers, body, spoiled)


def as_text(value: Any) -> str:
    """Return a value as it stands in a path, query or header: lists with commas (OpenAPI's `simple` and `form`)."""
    if isinstance(value, list):
        return ",".join(as_text(item) for item in value)[:LONGEST]
    return (value if isinstance(value, str) else orjson.dumps(value).decode())[:LONGEST]
