"""Event streams on the gateway's socket, as a client of somebody else's sees them."""

from typing import Any

import pytest

from tests.acceptance.gateway_client import Client
from tests.acceptance.link import Link
from tests.stack import Stack

NOWHERE = "http://127.0.0.1:9/in"


@pytest.fixture
def link(shared_stack: Stack) -> Link:
    return Link(shared_stack, NOWHERE)


def begun(stack: Stack, link: Link, role: str, **more: Any) -> Client:
    """Return a connected client that follows what the link's source sends."""
    client = Client(stack, key=stack.key(role)).__enter__()
    assert client.hear()["type"] == "ready"
    client.say(type="subscribe", id="s", filter={"source_system": link.source}, ref="r", **more)
    answer = client.hear()
    assert {"type": "subscribed", "id": "s", "ref": "r"}.items() <= answer.items()
    return client


def test_what_is_accepted_over_rest_comes_at_once_and_goes_on_after_a_cut(shared_stack: Stack, link: Link) -> None:
    with begun(shared_stack, link, "operator") as client:
        first = link.send(payload={"n": 1})
        event = client.hear()
    missed = link.send(payload={"n": 2})
    with begun(shared_stack, link, "operator", after=event["cursor"]) as again:
        then = again.hear()

    assert (event["message"]["message_id"], event["message"]["payload"]) == (first, {"n": 1})
    assert (then["message"]["message_id"], then["message"]["payload"]) == (missed, {"n": 2})


def test_a_viewer_follows_without_payloads_and_can_do_nothing_else(shared_stack: Stack, link: Link) -> None:
    """It is let in to read; it neither sends, nor is handed deliveries."""
    with begun(shared_stack, link, "viewer") as client:
        sent = link.send(payload={"secret": 1})
        event = client.hear()
        client.say(type="send", message=link.message(), ref="x")
        refusal = client.hear()

    assert event["message"]["message_id"] == sent
    assert not {"payload", "payload_base64"} & event["message"].keys()
    assert (refusal["type"], refusal["ref"], refusal["code"]) == ("nack", "x", "forbidden")


def test_what_is_wrong_with_a_stream_never_ends_the_connection(shared_stack: Stack, link: Link) -> None:
    """More often than bad frames are borne with; and deliveries' credit is told from a stream's."""
    with begun(shared_stack, link, "operator", credit=1) as client:
        for frame, code in (
            ({"type": "subscribe", "id": "s"}, "duplicate_id"),
            ({"type": "subscribe", "id": "t", "filter": {"colour": "red"}}, "invalid"),
            ({"type": "subscribe", "id": "t", "after": "nonsense"}, "bad_cursor"),
            ({"type": "subscribe"}, "invalid"),
            ({"type": "unsubscribe", "id": "t"}, "unknown_subscription"),
            ({"type": "credit", "id": "t", "n": 5}, "unknown_subscription"),
            ({"type": "credit", "id": "s", "n": 0}, "invalid"),
        ):
            client.say(ref="e", **frame)
            assert {"type": "error", "ref": "e", "code": code}.items() <= client.hear().items()
        client.say(type="credit", n=5)
        first, second = link.send(), link.send()
        assert client.hear()["message"]["message_id"] == first
        client.say(type="ping", ref="p")
        assert client.hear() == {"type": "pong", "ref": "p"}
        client.say(type="credit", id="s", n=1)
        assert client.hear()["message"]["message_id"] == second


def test_a_revoked_key_gets_no_more_events(shared_stack: Stack, link: Link) -> None:
    done = shared_stack.api("POST", "keys/", json={"name": "to-be-revoked", "role": "operator"}).json()
    with Client(shared_stack, key=done["key"]) as client:
        client.hear()
        client.say(type="subscribe", id="s")
        assert client.hear()["type"] == "subscribed"
        assert shared_stack.api("POST", f"keys/{done['id']}/revoke/").status_code == 200

        assert client.until_closed()[0] == 4403
