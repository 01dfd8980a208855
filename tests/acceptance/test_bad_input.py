"""No input of a client gives a 5xx, stops a process or poisons a list: the corpus, on both databases."""

import gzip
import socket
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import psutil
import pytest

from tests.acceptance.link import Link
from tests.servers.http import HttpReceiver
from tests.stack import Stack

LISTS = [
    *("systems", "endpoints", "credentials", "keys", "messages", "deliveries", "attempts", "dead-letters"),
    *("audit", "ledger"),
]
Make = Callable[[dict[str, Any]], bytes]


def whole(text: bytes) -> Make:
    """Return a body that is `text`, whatever message was meant."""
    return lambda message: text


def payload(json: bytes) -> Make:
    """Return a body that is a good message but for this JSON in its payload."""
    return lambda message: orjson.dumps(message | {"payload": "@"}).replace(b'"@"', json)


def fields(**values: Any) -> Make:
    """Return a body that is a good message but for these fields."""
    return lambda message: orjson.dumps(message | values)


CORPUS: dict[str, tuple[Make, int]] = {
    "nothing": (whole(b""), 400),
    "white space": (whole(b" \n"), 400),
    "not JSON": (whole(b"{"), 400),
    "a text": (whole(b'"text"'), 400),
    "a number": (whole(b"7"), 400),
    "null": (whole(b"null"), 400),
    "an empty list": (whole(b"[]"), 400),
    "a byte order mark": (lambda message: b"\xef\xbb\xbf" + orjson.dumps(message), 400),
    "UTF-16": (lambda message: orjson.dumps(message).decode().encode("utf-16"), 400),
    "bad UTF-8": (payload(b'"\xff\xfe"'), 400),
    "an overlong encoding": (payload(b'"\xc0\xaf"'), 400),
    "a lone surrogate": (payload(rb'"\ud800"'), 400),
    "a lone surrogate as a key": (payload(rb'{"\udfff": 1}'), 400),
    "NUL": (payload(rb'"\u0000"'), 400),
    "NUL as a key": (payload(rb'{"a\u0000": 1}'), 400),
    "a raw control character": (payload(b'"\x01"'), 400),
    "a key twice": (payload(b'{"a": 1, "a": 2}'), 400),
    "a field twice": (lambda message: orjson.dumps(message)[:-1] + b',"payload":2}', 400),
    "NaN": (payload(b"NaN"), 400),
    "Infinity": (payload(b"-Infinity"), 400),
    "1e999": (payload(b"1e999"), 400),
    "2^64": (payload(b"18446744073709551616"), 400),
    "a thousand digits": (payload(b"9" * 1000), 400),
    "64 levels in the message, which is one": (payload(b"[" * 64 + b"]" * 64), 400),
    "100,000 levels": (payload(b"[" * 100_000 + b"]" * 100_000), 400),
    "100,000 open objects": (whole(b'{"a":' * 100_000), 400),
    "text after the end": (lambda message: orjson.dumps(message) + b"x", 400),
    "an unknown field": (fields(colour="red"), 400),
    "no payload": (fields(payload=None), 400),
    "two payloads": (fields(payload_base64="eA=="), 400),
    "bad base64": (fields(payload=None, payload_base64="e"), 400),
    "an unknown source": (fields(source_system="nobody-there"), 422),
    "an unknown target": (fields(target_system="nobody-there"), 422),
    "an unknown interface": (lambda message: _to(message, "/nowhere"), 422),
    "a target that is no name": (fields(target_system="No Such/Thing/"), 400),
    "a hundred and one targets": (fields(target_system=[f"s{n}" for n in range(101)]), 400),
    "no source": (fields(source_system=None), 400),
    "a type that is none": (fields(message_type="song"), 400),
    "a priority that is none": (fields(priority=3), 400),
    "a time without offset": (fields(deliver_at="2026-01-02T03:04:05"), 400),
    "a time before time": (fields(timestamp="0001-01-01T00:00:00+14:00"), 400),
    "a time to live of none": (fields(ttl=0), 400),
    "a time to live that is text": (fields(ttl="60"), 400),
    "a negative number of retries": (fields(max_retries=-1), 400),
    "half a retry": (fields(max_retries=1.5), 400),
    "a header with a line break": (fields(headers={"a": "b\r\nc: d"}), 400),
    "a header name with a line break": (fields(headers={"a\r\nb": "c"}), 400),
    "a header that is a number": (fields(headers={"a": 1}), 400),
    "a content type that is none": (fields(content_type="text"), 400),
    "an event type with a line break": (fields(event_type="a\nb"), 400),
    "a message id of 129 characters": (fields(message_id="x" * 129), 400),
    "a message id with a slash": (fields(message_id="a/b"), 400),
    "a correlation id that is a list": (fields(correlation_id=[]), 400),
    "search keys that are a list": (fields(search_keys=[1]), 400),
    "an empty search key": (fields(search_keys={"order": ""}), 400),
    "a thousand and one messages": (whole(b"[" + b"1," * 1000 + b"1]"), 413),
    "a payload over the sender's cap": (fields(payload="x" * 1_048_577), 413),
}
# What looks odd and is right: stored, shown and delivered as it was given.
GOOD = {
    "2^64 - 1": payload(b"18446744073709551615"),
    "-2^63": payload(b"-9223372036854775808"),
    "63 levels in the message, which is one": payload(b"[" * 63 + b"]" * 63),
    "1e2 and 1.0": payload(b"[1e2,1.0,-0.0,0.1000000000000000055511151231257827]"),
    "text beyond the first plane": payload(rb'"\ud83d\ude00"'),
    "markup": payload(b'"<script>alert(1)</script>"'),
    "an empty text": payload(b'""'),
    "no bytes": fields(payload=None, payload_base64=""),
    "the first day": fields(timestamp="0001-01-01T00:00:00Z"),
    "the last day": fields(timestamp="9999-12-31T23:59:59.999999Z"),
}


def _to(message: dict[str, Any], interface: str) -> bytes:
    return orjson.dumps(message | {"target_system": message["target_system"] + interface})


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Iterator[Link]:
    """A link of a process that must be the same, and well, after the test; and every list must read."""
    before = psutil.Process(shared_stack.processes["web"].pid).create_time()
    yield Link(shared_stack, http_receiver.url)
    assert shared_stack.processes["web"].poll() is None
    assert shared_stack.processes["deliver"].poll() is None
    assert psutil.Process(shared_stack.processes["web"].pid).create_time() == before
    for name in LISTS:
        answer = shared_stack.api("GET", f"{name}/")
        assert answer.status_code == 200, (name, answer.text)


def demand_problem(answer: Any, status: int) -> None:
    """Assert that this is a problem of that status, with every member of RFC 9457 that we promise."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert {"type", "title", "status", "code", "detail", "errors"} <= body.keys()
    assert body["status"] == status


def test_every_bad_body_is_a_problem_and_stores_nothing(link: Link) -> None:
    """Each with its own clear 4xx; afterwards every list still reads."""
    counted = (
        "SELECT count(*) FROM messaging_message WHERE source_id = (SELECT id FROM endpoints_system WHERE slug = ?)"
    )
    headers = {"Content-Type": "application/json"}
    wrong = {}
    for name, (make, status) in CORPUS.items():
        answer = link.stack.api("POST", "messages/", data=make(link.message()), headers=headers)
        if answer.status_code != status:
            wrong[name] = (answer.status_code, answer.text[:200])
        else:
            demand_problem(answer, status)

    assert wrong == {}
    assert link.stack.sql(counted, link.source) == [(0,)]


def test_every_odd_body_that_is_right_is_delivered_as_given(link: Link, http_receiver: HttpReceiver) -> None:
    """Strict is not narrow: what any reader agrees on goes through, digit by digit."""
    for name, make in GOOD.items():
        answer = link.stack.api(
            "POST", "messages/", data=make(link.message()), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 202, (name, answer.text)
        found = link.ended(answer.json()["message_id"])
        assert found["state"] == "delivered", (name, found)
        shown = link.stack.api("GET", f"messages/{found['message_id']}/")
        assert shown.status_code == 200, (name, shown.text)

    assert b"[1e2,1.0,-0.0,0.1000000000000000055511151231257827]" in {item.body for item in http_receiver.received}


RAW = {
    "bad JSON": ({"Content-Type": "application/json"}, b"{", 400),
    "JSON with NUL": ({"Content-Type": "application/json"}, rb'"\u0000"', 400),
    "a key twice": ({"Content-Type": "application/problem+json"}, b'{"a":1,"a":2}', 400),
    "a content type that is none": ({"Content-Type": "text"}, b"x", 400),
    "a type that is none": ({"X-Message-Type": "song"}, b"x", 400),
    "a priority that is none": ({"X-Priority": "9"}, b"x", 400),
    "a time to live that is none": ({"X-Ttl": "soon"}, b"x", 400),
    "an endless time to live": ({"X-Ttl": "inf"}, b"x", 400),
    "a time to live in Python's digits": ({"X-Ttl": "1_0"}, b"x", 400),
    "an id that no path can hold": ({"X-Message-Id": ".."}, b"x", 400),
    "a time to live that is not a number": ({"X-Ttl": "nan"}, b"x", 400),
    "an event type in latin-1 controls": ({"X-Event-Type": "a\x85b".encode("latin-1")}, b"x", 400),
    "a source that is none": ({"X-Source-System": "No One"}, b"x", 400),
    "a compressed body": ({"Content-Encoding": "gzip"}, gzip.compress(b"x"), 415),
    "a body over the sender's cap": ({}, b"x" * 1_048_577, 413),
    "a body over every cap": ({}, b"x" * (25 * 1024 * 1024 + 1), 413),
}


def test_every_bad_raw_body_or_header_is_a_problem(link: Link) -> None:
    """The same for what comes through /to/."""
    for name, (headers, body, status) in RAW.items():
        known = {"X-Source-System": link.source, "Content-Type": "text/plain"}
        answer = link.stack.api("POST", f"/to/{link.target}", data=body, headers={**known, **headers})
        assert answer.status_code == status, (name, answer.text)
        demand_problem(answer, status)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/to/", 400),
        ("/to/nobody-there", 422),
        ("/to/{target}/nowhere", 422),
        ("/to/{target}/main/more", 400),
        ("/to/%00", 400),
        ("/to/%ff", 400),
        ("/to/..%2f..%2fetc", 400),
        ("messages/?wait=soon", 400),
        ("messages/?wait=61", 400),
        ("messages/?wait=nan", 400),
        ("messages/?wait=1_0", 400),
        ("messages/?colour=red", 400),
    ],
)
def test_a_path_or_parameter_that_is_none_is_a_problem(link: Link, path: str, status: int) -> None:
    headers = {"X-Source-System": link.source} if path.startswith("/to") else {}
    answer = link.stack.api("POST", path.format(target=link.target), json=link.message(), headers=headers)

    demand_problem(answer, status)


@pytest.mark.parametrize("content_type", ["text/xml", "application/x-www-form-urlencoded", "", "application/json5"])
def test_another_content_type_is_415(link: Link, content_type: str) -> None:
    answer = link.stack.api("POST", "messages/", data=b"{}", headers={"Content-Type": content_type})

    demand_problem(answer, 415)


def test_a_chunked_body_without_end_is_cut_at_the_cap(link: Link) -> None:
    """Without a length, memory is bounded by what was read so far."""
    message = b"x" * (1024 * 1024)
    answer = link.stack.api(
        "POST", "messages/", data=(message for _ in range(60)), headers={"Content-Type": "application/json"}
    )

    demand_problem(answer, 413)


@pytest.mark.parametrize("key", ["", "cp_", "cp_x_y", "cp_" + "0" * 5000, "eyJhbGciOiJub25lIn0.e30.", "\xff"])
def test_a_key_that_is_none_is_401(link: Link, key: str) -> None:
    headers = {"Content-Type": "application/json", "X-API-Key": key.encode("latin-1")}
    answer = link.stack.session.post(f"{link.stack.url}/api/v1/messages/", json=link.message(), headers=headers)

    demand_problem(answer, 401)


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /to/x HTTP/1.1\r\nHost: a\r\nX-Api-Key: a\r\nX-Bad: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"POST /to/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /to/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /to/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /to/x\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
    ],
    ids=["bare CR", "two lengths", "negative length", "bad chunk", "NUL in path", "TLS", "garbage"],
)
def test_what_is_not_http_is_refused_or_cut(link: Link, raw: bytes) -> None:
    """4xx or a closed connection; never a 5xx, never a hang."""
    with socket.create_connection(("127.0.0.1", link.stack.port), timeout=30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
