"""CloudEvents 1.0 in every HTTP mode: what becomes of the attributes, and that an event leaves as it came."""

import base64
from typing import Any
from uuid import uuid4

import orjson
import pytest
import requests

from tests.acceptance.link import Link
from tests.acceptance.test_callers import made_key
from tests.servers.http import HttpReceiver
from tests.stack import Stack

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    """A link whose receiver takes CloudEvents."""
    return Link(shared_stack, http_receiver.url, config={"body": "cloudevents"})


def event(link: Link, **attributes: Any) -> dict[str, Any]:
    """Return an event over this link; an attribute given as None is left out."""
    known = {
        "specversion": "1.0",
        "id": f"e-{uuid4().hex}",
        "source": "/billing/eu",
        "type": "invoice.paid",
        "sourcesystem": link.source,
        "targetsystem": link.target,
        **attributes,
    }
    return {name: value for name, value in known.items() if value is not None}


def post(link: Link, body: Any, kind: str = STRUCTURED, key: str | None = None, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return link.stack.api("POST", "messages/", data=data, key=key, headers={"Content-Type": kind, **headers})


def post_binary(link: Link, data: bytes, kind: str, **attributes: Any) -> requests.Response:
    headers = {f"ce-{name}": value for name, value in event(link, **attributes).items()}
    return post(link, data, kind, **headers)


def faults(answer: requests.Response) -> dict[str, str]:
    assert answer.status_code == 400, answer.text
    return {error["field"]: error["code"] for error in answer.json()["errors"]}


def test_a_structured_event_leaves_as_it_came(link: Link, http_receiver: HttpReceiver) -> None:
    """Attributes with a field become that field, the others are kept, and the receiver gets them all."""
    sent = event(
        link,
        time="2026-01-02T03:04:05Z",
        subject="invoice 4711",
        dataschema="https://example.com/invoice",
        partitionkey="customer-1",
        comexampleretries=3,
        data={"total": 12.50},
    )

    answer = post(link, orjson.dumps(sent).replace(b"12.5", b"12.50"))

    assert (answer.status_code, answer.json()["message_id"], answer.json()["deliveries"]) == (202, sent["id"], 1)
    stored = link.stack.api("GET", f"messages/{sent['id']}/").json()
    assert (stored["source_system"], stored["event_type"], stored["ordering_key"], stored["timestamp"]) == (
        link.source,
        "invoice.paid",
        "customer-1",
        "2026-01-02T03:04:05Z",
    )
    assert stored["headers"]["ce-subject"] == "invoice 4711"
    [received] = http_receiver.wait_for(1)
    assert received.headers["content-type"] == STRUCTURED
    assert b'"data":{"total":12.50}' in received.body
    got = orjson.loads(received.body)
    ours = {"sourcesystem", "targetsystem", "data"}
    expected = {name: value for name, value in sent.items() if name not in ours}
    assert expected.items() <= (got | {"comexampleretries": int(got["comexampleretries"])}).items()


def test_a_binary_event_keeps_its_bytes(link: Link, http_receiver: HttpReceiver) -> None:
    """The body is the data, of whatever type; attribute values are percent-decoded."""
    data = b"\x00\xff<raw>"

    answer = post_binary(link, data, "application/x-thing", subject="a%20%E2%82%AC", id="b-1")

    assert answer.status_code == 202, answer.text
    stored = link.stack.api("GET", f"messages/b-1/?source_system={link.source}").json()
    assert (stored["content_type"], stored["headers"]["ce-subject"]) == ("application/x-thing", "a €")
    [received] = http_receiver.wait_for(1)
    assert base64.b64decode(orjson.loads(received.body)["data_base64"]) == data


def test_an_event_may_have_text_bytes_or_no_data(link: Link, http_receiver: HttpReceiver) -> None:
    """Each form that the JSON format knows is stored as the bytes it stands for."""
    forms: list[tuple[dict[str, Any], bytes]] = [
        ({"datacontenttype": "text/xml", "data": "<a/>"}, b"<a/>"),
        ({"data_base64": "AP8="}, b"\x00\xff"),
        ({"data": None}, b"null"),
        ({"data": "text"}, b'"text"'),
        ({}, b""),
    ]
    for form, stored in forms:
        sent = event(link) | form
        assert post(link, sent).status_code == 202, form
        shown = link.stack.api("GET", f"messages/{sent['id']}/").json()
        assert shown["size"] == len(stored), form


def test_a_batch_of_events_is_answered_one_by_one(link: Link) -> None:
    good, bad = event(link), event(link, type=None)

    answer = post(link, [good, bad, good, 7], BATCH)

    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [row["status"] for row in results] == ["accepted", "rejected", "duplicate", "rejected"]
    assert "type" in results[1]["detail"]
    assert [row["message_id"] for row in results] == [good["id"], bad["id"], good["id"], None]


@pytest.mark.parametrize(
    ("attributes", "at_fault"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": None}, "source"),
        ({"type": ["a"]}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"Subject": "upper case"}, "Subject"),
        ({"subject": "a\nb"}, "subject"),
        ({"extension": {"a": 1}}, "extension"),
        ({"datacontenttype": "text", "data": "x"}, "datacontenttype"),
        ({"datacontenttype": [], "data_base64": "eA=="}, "datacontenttype"),
        ({"datacontenttype": "text/xml", "data": {"a": 1}}, "data"),
        ({"data": 1, "data_base64": "eA=="}, "data_base64"),
        ({"data_base64": "?"}, "data_base64"),
        ({"targetsystem": "No System"}, "targetsystem"),
        ({"partitionkey": "x" * 201}, "partitionkey"),
    ],
)
def test_a_bad_attribute_is_named(link: Link, attributes: dict[str, Any], at_fault: str) -> None:
    """By the name the sender gave it, not by the field it would have become."""
    assert at_fault in faults(post(link, event(link, **attributes)))


def test_a_bad_header_of_a_binary_event_is_named(link: Link) -> None:
    assert faults(post_binary(link, b"x", "text/plain", time="soon", id=None)) == {"time": "invalid", "id": "required"}
    assert faults(post_binary(link, b"x", "text/plain", subject="%ff")) == {"ce-subject": "invalid"}
    assert post_binary(link, b'{"a":1,"a":2}', "application/json").status_code == 400


def test_who_sends_is_the_bound_system_else_the_source(link: Link) -> None:
    """A key speaks as its system; without one `source` may name it, as our own endpoints write it."""
    _, bound = made_key(link, role="operator", system=link.source)

    by_key = post(link, event(link, sourcesystem=None), key=bound)
    by_source = post(link, event(link, sourcesystem=None, source=link.source))
    forged = post(link, event(link, sourcesystem=link.target), key=bound)
    nobody = post(link, event(link, sourcesystem=None))

    assert (by_key.status_code, by_source.status_code) == (202, 202)
    assert (forged.status_code, forged.json()["code"]) == (403, "wrong_source")
    assert nobody.status_code == 400
    assert "source_system" in nobody.json()["detail"]


def test_an_event_sent_again_is_a_duplicate(link: Link) -> None:
    """`id` and source are what makes an event one; other data under them is a conflict."""
    sent = event(link, data=1)

    assert [post(link, sent).json()["status"] for _ in range(2)] == ["accepted", "duplicate"]
    assert post(link, sent | {"data": 2}).json()["code"] == "id_conflict"
