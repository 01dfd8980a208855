"""The envelope as a sender writes it: each field's check, and what makes two messages the same."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from messaging.intake.envelope import Draft, read_message, read_raw

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(**fields: Any) -> Draft:
    return read_message({"payload": 1, **fields})


def faults(data: Any) -> dict[str, str]:
    """Return {field: code} of what is wrong; empty when nothing is."""
    try:
        read_message(data)
    except Malformed as exc:
        return {error["field"]: error["code"] for error in exc.errors}
    return {}


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("target_system", "erp", ["erp"]),
        ("target_system", "erp/orders", ["erp/orders"]),
        ("target_system", ["erp", "crm", "erp"], ["erp", "crm"]),
        ("target_system", "*", ["*"]),
        ("priority", "emergency", 4),
        ("timestamp", "2026-01-02T04:04:05+01:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("deliver_at", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("ttl", 60, 60.0),
        ("max_retries", 0, 0),
        ("headers", {"X-A": "b"}, {"X-A": "b"}),
        ("search_keys", {"order": 4711}, {"order": "4711"}),
        ("content_type", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("correlation_id", "päckchen 1", "päckchen 1"),
    ],
)
def test_a_field_is_kept_as_meant(field: str, value: Any, kept: Any) -> None:
    assert getattr(read(**{field: value}), field) == kept


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_system", []),
        ("target_system", "ERP"),
        ("target_system", "a/b/c"),
        ("target_system", {"a": 1}),
        ("message_type", "song"),
        ("priority", 3),
        ("priority", ["high"]),
        ("timestamp", "yesterday"),
        ("timestamp", 1767323045),
        ("deliver_at", "2026-01-02T03:04:05"),
        ("ttl", 0),
        ("ttl", -1),
        ("ttl", True),
        ("ttl", "60"),
        ("ttl", 1e12),
        ("max_retries", 100),
        ("max_retries", 1.0),
        ("max_retries", True),
        ("headers", {"a b": "c"}),
        ("headers", {"a": "b\nc"}),
        ("headers", {"a": "x" * 9000}),
        ("headers", {f"h{n}": "" for n in range(101)}),
        ("search_keys", {"order": True}),
        ("search_keys", {"order": "x" * 201}),
        ("search_keys", {"": "x"}),
        ("content_type", "json"),
        ("content_type", "text/plain\r\nX-A: b"),
        ("message_id", ""),
        ("message_id", "a/b"),
        ("event_type", "a\x00b"),
        ("event_type", "x" * 201),
        ("reply_to", "Not A System"),
        ("payload_base64", "?"),
        ("colour", "red"),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    """By its own name, so that a form can show it beside the field."""
    assert field in faults({"payload": 1, field: value})


def test_every_bad_field_is_told_at_once() -> None:
    data = {"ttl": 0, "priority": "top", "colour": "red"}

    assert faults(data) == {"ttl": "invalid", "priority": "invalid", "colour": "unknown", "payload": "required"}


@pytest.mark.parametrize("data", [None, 1, "text", [], [{}]])
def test_a_message_is_an_object(data: Any) -> None:
    with pytest.raises(Malformed, match="must be a JSON object"):
        read_message(data)


def test_null_is_as_good_as_absent() -> None:
    """As the documented example writes it."""
    assert read(ttl=None, message_id=None, payload_base64=None) == read()


def test_an_empty_base64_payload_is_no_bytes() -> None:
    draft = read_message({"payload_base64": ""})

    assert (draft.payload, draft.content_type) == (b"", "application/octet-stream")


@given(value=JSON.filter(lambda value: value is not None))
def test_a_payload_survives_as_the_value_it_was(value: Any) -> None:
    """Whatever strict JSON holds comes out as the same value."""
    try:
        body = strict_json.dumps({"payload": value})
        data = strict_json.parse(body, exact_numbers=True)
    except (Malformed, TypeError, ValueError):
        return
    assert strict_json.parse(read_message(data).payload) == strict_json.parse(body)["payload"]


@pytest.mark.parametrize(
    "number", ["1e2", "1.0", "-0.0", "0.1000000000000000055511151231257827", "18446744073709551615"]
)
def test_numbers_keep_their_digits(number: str) -> None:
    data = strict_json.parse(b'{"payload":[%s]}' % number.encode(), exact_numbers=True)

    assert read_message(data).payload == b"[%s]" % number.encode()


# --- the same or another ------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"payload": 2},
        {"content_type": "text/plain"},
        {"target_system": "erp"},
        {"message_type": "command"},
        {"event_type": "a"},
        {"priority": "high"},
        {"headers": {"a": "b"}},
        {"correlation_id": "c"},
        {"reply_to": "shop"},
        {"ordering_key": "o"},
        {"recipient": "r"},
        {"search_keys": {"order": "1"}},
        {"ttl": 1},
        {"deliver_at": "2026-01-02T03:04:05Z"},
        {"max_retries": 1},
    ],
)
def test_whatever_a_sender_changes_makes_another_message(change: dict[str, Any]) -> None:
    assert read(**change).fingerprint() != read().fingerprint()


@pytest.mark.parametrize(
    "change", [{"timestamp": "2026-01-02T03:04:05Z"}, {"message_id": "m"}, {"idempotency_key": "k"}]
)
def test_a_new_stamp_or_name_leaves_it_the_same(change: dict[str, Any]) -> None:
    """A sender that tries again may well stamp anew; names are compared on their own."""
    assert read(**change).fingerprint() == read().fingerprint()


def test_the_order_of_headers_does_not_matter() -> None:
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}

    assert read(headers=one).fingerprint() == read(headers=two).fingerprint()


# --- raw bodies ---------------------------------------------------------------------


@given(body=st.binary(max_size=200))
def test_a_raw_body_is_kept_byte_for_byte(body: bytes) -> None:
    assert read_raw(body, {}, "crm").payload == body


def test_a_raw_message_has_its_envelope_in_headers() -> None:
    headers = {"x-source-system": "shop", "x-priority": "high", "x-ttl": "1.5", "idempotency-key": "k"}
    draft = read_raw(b"x", {**headers, "content-type": "text/plain"}, "crm/orders")

    assert (draft.source_system, draft.target_system, draft.priority) == ("shop", ["crm/orders"], 2)
    assert (draft.ttl, draft.idempotency_key, draft.content_type) == (1.5, "k", "text/plain")


@pytest.mark.parametrize("content_type", ["application/json", "application/cloudevents+json; charset=utf-8"])
def test_a_raw_body_that_calls_itself_json_must_be(content_type: str) -> None:
    with pytest.raises(Malformed):
        read_raw(b'{"a":1,"a":2}', {"content-type": content_type}, "crm")
