"""What is copied into a draft: secrets are found by name, look and value, and nothing copied is read as a reference."""

import time
from typing import Any

import pytest

from testing.document.reader import read_suite
from testing.drafting.cleaning import Cleaner
from testing.drafting.message import Receiver, Sent, draft_message

KNOWN = "correct-horse-battery"


def sent(payload: bytes = b"{}", content_type: str = "application/json", **more: Any) -> Sent:
    fields: dict[str, Any] = {
        "message_id": "m-1",
        "source": "shop",
        "message_type": "event",
        "event_type": "order.paid",
        "priority": "normal",
        "recipient": "",
        "headers": {},
        "receivers": [Receiver("crm", "main", "delivered", 204)],
    }
    return Sent(payload=payload, content_type=content_type, **(fields | more))


def text_of(given: Sent) -> str:
    return draft_message(given, "s", Cleaner({KNOWN})).text


@pytest.mark.parametrize(
    "value",
    [
        *(f"x {KNOWN} y", "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5", "cp_0193ab_Zm9vYmFyYmF6", "Bearer abcdefghij.klm"),
        *("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "-----BEGIN PRIVATE KEY-----", "https://me:pass@host/"),
        *("whsec_c2VjcmV0c2VjcmV0", "ghp_abcdefghijklmnopqrstuvwxyz", "Basic dXNlcjpwYXNz"),
    ],
)
def test_what_looks_like_a_secret_is_left_out_wherever_it_stands(value: str) -> None:
    """In a text of the payload, in a header, in the event type, and in what a receiver said of it."""
    said = Receiver("crm", "main", "dead", 500, "server_error", f"refused {value}")
    body = f'{{"a": [{{"b": "{value}"}}]}}'.encode()
    text = text_of(sent(body, headers={"x-a": value}, event_type=value, receivers=[said]))

    assert value not in text
    assert KNOWN not in text


@pytest.mark.parametrize(
    "name",
    ["password", "Passwd", "client_secret", "apiKey", "api-key", "access_token", "Authorization", "set-cookie", "pin"],
)
def test_what_is_called_a_secret_is_left_out_whatever_it_is(name: str) -> None:
    """A text, a number, or all that stands below such a name; an empty one tells nothing and stays."""
    for value in ('"sesame"', "991188", '{"deep": ["sesame", 991188]}'):
        text = text_of(sent(f'{{"{name}": {value}, "kept": 7}}'.encode(), headers={name: "sesame"}))
        assert ("sesame" in text, "991188" in text, "kept: 7" in text) == (False, False, True), text
        assert "left-out" in text
    assert "vars:" not in text_of(sent(f'{{"{name}": ""}}'.encode()))


@pytest.mark.parametrize(
    ("payload", "content_type", "kept"),
    [
        (b"<order>1</order>", "application/xml", {"payload_base64": "PG9yZGVyPjE8L29yZGVyPg=="}),
        (b"\x00\xff", "application/octet-stream", {"payload_base64": "AP8="}),
        (b"not json", "application/json", {"payload_base64": "bm90IGpzb24="}),
        (b"null", "application/json", {"payload_base64": "bnVsbA=="}),
        (b"<password>x</password>", "application/xml", {"payload_base64": ""}),
        (b"user=a&pwd=b", "application/x-www-form-urlencoded", {"payload_base64": ""}),
        (f"a {KNOWN} b".encode(), "text/plain", {"payload_base64": ""}),
        (b'{"a":1}', "application/vnd.shop+json", {"payload": {"a": 1}}),
    ],
)
def test_a_payload_that_is_no_json_goes_as_bytes_if_nothing_in_it_may_be_secret(
    payload: bytes, content_type: str, kept: dict[str, Any]
) -> None:
    params = read_suite(text_of(sent(payload, content_type))).cases[0].steps[0].params
    found = {name: params[name] for name in ("payload", "payload_base64") if name in params}

    assert (found, params["content_type"]) == (kept, content_type)


def test_nothing_that_a_sender_wrote_is_read_as_a_reference() -> None:
    """Not in values, keys, headers, the event type, or what stands in comments."""
    reference = "${{ secret.crm-key.token }}"
    body = f'{{"a": "{reference}", "{reference}": 1}}'.encode()
    found = sent(body, event_type=reference, headers={"x-a": reference}, recipient=reference, message_id=reference)
    suite = read_suite(text_of(found))

    params = suite.cases[0].steps[0].params
    assert params["payload"]["a"] == params["event_type"] == params["recipient"] == "$ {{ secret.crm-key.token }}"
    assert "${{ secret" not in suite.text


def test_each_receiver_is_expected_and_none_is_expected_of_an_unrouted_one() -> None:
    """Several have an alias each; what routes decided is left to routes; the answer to a request is expected, too."""
    both = [Receiver("crm", "main", "delivered", 201), Receiver("erp", "orders", "dead", 503)]
    text = text_of(sent(receivers=both, is_routed=True, is_ordered=True))
    assert "  receiver2: erp/orders\n" in text
    assert "to:" not in text
    for line in ("{rows: {len: 2}}", "{rows.0.status_code: {eq: 201}}", "{rows.1.status_code: {between: [200, 299]}}"):
        assert line in text
    assert "rows" not in text_of(sent(receivers=[], is_routed=True))
    asked = sent(message_type="request", answer=(b'{"ok": true}', "application/json"))
    assert '{"body.$": {type: object}}' in text_of(asked)


def test_a_hostile_payload_costs_little() -> None:
    """The largest payload there may be, in the shapes that cost most to look at."""
    for piece in ("-eyJ-", "://a:b", "basic  ", "password ", "${{", "cp_aaaaaa", "\\n- a: b\\n"):
        body = f'{{"a": "{piece * (250_000 // len(piece))}"}}'.encode()
        started = time.perf_counter()
        draft_message(sent(body), "s", Cleaner({KNOWN}))
        assert time.perf_counter() - started < 5, piece
