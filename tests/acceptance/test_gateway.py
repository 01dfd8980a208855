"""The gateway as a system's own client knows it: real sockets against real processes, on both databases."""

import time
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.acceptance.gateway_client import Client, awaited, delivery_of, gateway_door, send
from tests.stack import Stack


@pytest.fixture(scope="session")
def bound(shared_stack: Stack) -> str:
    """Return the key of a system that sends and has a door at the gateway."""
    gateway_door(shared_stack, "crm", timeout_s=5)
    return shared_stack.key("operator", system="crm")


def test_a_message_is_acknowledged_once_it_is_stored(shared_stack: Stack, bound: str) -> None:
    with Client(shared_stack, key=bound) as client:
        assert client.hear() == {"type": "ready", "system": "crm"}
        client.say(type="send", ref="a1", message={"payload": {"n": 1}})
        ack = client.hear()

    assert (ack["type"], ack["ref"], ack["status"]) == ("ack", "a1", "accepted")
    stored = shared_stack.sql("SELECT message_id FROM messaging_message WHERE message_id = ?", ack["message_id"])
    assert len(stored) == 1


def test_a_delivery_is_delivered_once_its_client_says_so(shared_stack: Stack, bound: str) -> None:
    with Client(shared_stack, key=bound) as client:
        client.hear()
        message_id = send(
            shared_stack, "crm", event_type="invoice.paid", payload={"exact": [1e2, "ü"]}, headers={"x-a": "b"}
        )
        delivery = client.hear()
        assert delivery_of(shared_stack, message_id)["state"] == "sending"
        client.say(type="ack", delivery_id=delivery["delivery_id"])
        found = awaited(shared_stack, message_id, state="delivered")

    assert (delivery["type"], delivery["attempt"]) == ("delivery", 1)
    message = delivery["message"]
    assert (message["message_id"], message["event_type"], message["source_system"]) == (
        message_id, "invoice.paid", "gw-source",
    )  # fmt: skip
    assert (message["payload"], message["headers"]) == ({"exact": [1e2, "ü"]}, {"x-a": "b"})
    assert (found["ack_level"], found["attempts"]) == ("application", 1)


def test_without_a_client_it_is_held_and_goes_as_soon_as_one_connects(shared_stack: Stack, bound: str) -> None:
    message_id = send(shared_stack, "crm")
    held = awaited(shared_stack, message_id, state="pending", reason="no_client")
    why = shared_stack.command("why", message_id)
    assert held["attempts"] == 0
    assert "no client of crm is connected" in why.stdout
    with Client(shared_stack, key=bound) as client:
        client.hear()
        delivery = client.hear()
        client.say(type="ack", delivery_id=delivery["delivery_id"])
        found = awaited(shared_stack, message_id, state="delivered")

    assert (delivery["message"]["message_id"], found["attempts"]) == (message_id, 1)


def test_a_token_may_come_in_the_first_frame_and_an_unbound_key_names_its_system(shared_stack: Stack) -> None:
    gateway_door(shared_stack, "gw-named")
    shared_stack.register("gw-from")
    key = shared_stack.key("operator")
    with Client(shared_stack) as client:
        client.say(type="auth", token=key, system="gw-named", ref="x")
        assert client.hear() == {"type": "ready", "system": "gw-named"}
        client.say(type="send", message={"payload": 1})
        assert client.hear()["type"] == "ack"  # from gw-named, as nothing else was said
        client.say(type="send", ref="r", message={"payload": 1, "source_system": "nobody-knows"})
        refused = client.hear()
    with Client(shared_stack, key=key) as client:
        assert client.hear() == {"type": "ready", "system": None}
        client.say(type="send", ref="s", message={"payload": 1})
        nameless = client.hear()
        client.say(type="auth", system="gw-named")
        assert client.hear() == {"type": "ready", "system": "gw-named"}

    assert (refused["type"], refused["ref"], refused["code"]) == ("nack", "r", "unknown_system")
    assert (nameless["type"], nameless["code"]) == ("nack", "invalid")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"type": "auth", "token": "cp_nobody_nothing"}, 4401),
        ({"type": "send", "message": {"payload": 1}}, 4401),
        ({"type": "auth", "token": 5}, 4401),
        ([], 4401),
        ({"type": "auth", "token": "$operator", "system": "not-there"}, 4403),
        ({"type": "auth", "token": "$operator", "system": 7}, 4403),
        ({"type": "auth", "token": "$bound", "system": "gw-source"}, 4403),
    ],
)
def test_who_may_not_connect_is_let_in_and_told_why(shared_stack: Stack, bound: str, said: Any, code: int) -> None:
    """Always accepted, then closed: a refusal before the handshake's end reaches no browser with its code."""
    keys = {"$operator": shared_stack.key("operator"), "$bound": bound}
    if isinstance(said, dict):
        said = {name: keys.get(value, value) if isinstance(value, str) else value for name, value in said.items()}
    with Client(shared_stack) as client:
        client.socket.send(orjson.dumps(said).decode())
        assert client.until_closed()[0] == code
        assert client.socket.close_reason


def test_who_says_nothing_is_closed_after_five_seconds(shared_stack: Stack) -> None:
    started = time.monotonic()
    with Client(shared_stack) as client:
        assert client.until_closed()[0] == 4401
    assert 4.5 < time.monotonic() - started < 9


def test_a_bad_key_in_the_head_and_a_foreign_page_are_refused(shared_stack: Stack, bound: str) -> None:
    with Client(shared_stack, key="cp_nobody_nothing") as client:
        assert client.until_closed()[0] == 4401
    with Client(shared_stack, key=bound, origin="https://evil.example") as client:
        assert client.until_closed()[0] == 4403
    with Client(shared_stack, key=bound, origin="null") as client:
        assert client.until_closed()[0] == 4403
    with Client(shared_stack, key=bound, origin=shared_stack.url) as client:
        assert client.hear()["type"] == "ready"
    with Client(shared_stack, path=f"?token={bound}") as client:
        assert client.until_closed()[0] == 4401


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        "null",
        '{"type":"dance"}',
        '{"type":5}',
        '{"type":"ping","ref":5}',
        '{"type":"ping","ref":"' + "x" * 65 + '"}',
        '{"type":"ping","type":"ping"}',
        '{"type":"send"}',
        '{"type":"send","message":{"payload":"\\u0000"}}',
        '{"type":"send","message":{"payload":"\\ud800"}}',
        '{"type":"send","message":{"payload":' + "[" * 70 + "]" * 70 + "}}",
        '{"type":"credit","n":-1}',
        '{"type":"credit","n":1.5}',
        '{"type":"credit"}',
        '{"type":"ack"}',
        '{"type":"nack","delivery_id":"x","retry_after_s":"soon"}',
        '{"type":"reply","delivery_id":"x"}',
        b"binary",
    ],
)
def test_three_bad_frames_end_a_connection_and_two_do_not(shared_stack: Stack, bound: str, frame: str | bytes) -> None:
    with Client(shared_stack, key=bound) as client:
        client.hear()
        for _ in range(2):
            client.socket.send(frame)
            assert client.hear()["type"] == "error"
        client.say(type="ping", ref="alive")
        assert client.hear() == {"type": "pong", "ref": "alive"}
        client.socket.send(frame)
        code, heard = client.until_closed()

    assert code == 4400
    assert [told["type"] for told in heard] == ["error"]


def test_a_refused_message_is_no_bad_frame_and_says_what_is_wrong(shared_stack: Stack, bound: str) -> None:
    refused = {
        "unknown": {"payload": 1, "tearget_system": "crm"},
        "none": {},
        "not an object": 5,
        "target": {"payload": 1, "target_system": "nowhere"},
        "source": {"payload": 1, "source_system": "gw-source"},
    }
    with Client(shared_stack, key=bound) as client:
        client.hear()
        for ref, message in refused.items():
            client.say(type="send", ref=ref, message=message)
        answers = {answer["ref"]: answer for answer in (client.hear() for _ in refused)}
        client.say(type="ack", ref="late", delivery_id="0193-unknown")
        unknown = client.hear()
        client.say(type="ping")
        assert client.hear() == {"type": "pong"}

    assert {ref: answer["type"] for ref, answer in answers.items()} == dict.fromkeys(refused, "nack")
    assert answers["target"]["code"] == "unknown_system"
    assert answers["source"]["code"] == "wrong_source"
    assert "target_system" in answers["unknown"]["detail"]
    assert (unknown["type"], unknown["ref"], unknown["code"]) == ("error", "late", "unknown_delivery")


def test_many_sends_in_flight_are_stored_in_the_order_they_came(shared_stack: Stack, bound: str) -> None:
    """Nobody waits for an answer, one of them is refused, one comes twice; the order of arrival is that of position."""
    with Client(shared_stack, key=bound) as client:
        client.hear()
        for number in range(3000):
            client.say(type="send", ref=str(number), message={"message_id": f"order-{number:05}", "payload": number})
        client.say(type="send", ref="again", message={"message_id": "order-00000", "payload": 0})
        client.say(type="send", ref="other", message={"message_id": "order-00000", "payload": "another"})
        answers = [client.hear(30) for _ in range(3002)]

    assert [answer["status"] for answer in answers[:3000]] == ["accepted"] * 3000
    told = {answer["ref"]: answer for answer in answers}
    assert (told["again"]["status"], told["other"]["code"]) == ("duplicate", "id_conflict")
    query = "SELECT message_id FROM messaging_message WHERE message_id LIKE ? ORDER BY position"
    stored = shared_stack.sql(query, "order-%")
    assert [row[0] for row in stored] == [f"order-{number:05}" for number in range(3000)]


def test_a_nack_is_tried_again_when_the_client_says_and_a_reply_becomes_the_response(
    shared_stack: Stack, bound: str
) -> None:
    with Client(shared_stack, key=bound) as client:
        client.hear()
        message_id = send(shared_stack, "crm", message_type="request", reply_to="gw-source")
        first = client.hear()
        client.say(type="nack", delivery_id=first["delivery_id"], reason="busy\u0007", retry_after_s=0)
        awaited(shared_stack, message_id, state="pending", reason="retrying", error_class="nack")
        resent = shared_stack.api("POST", f"deliveries/{first['delivery_id']}/resend/")
        assert resent.status_code in (202, 409), resent.text
        second = client.hear(20)
        client.say(type="reply", delivery_id=second["delivery_id"], payload={"answer": 42})
        awaited(shared_stack, message_id, state="delivered")

    assert (second["delivery_id"], second["attempt"]) == (first["delivery_id"], 2)
    query = "SELECT payload FROM messaging_message WHERE message_type = 'response' ORDER BY position DESC LIMIT 1"
    assert bytes(shared_stack.sql(query)[0][0]) == b'{"answer":42}'


def test_credit_bounds_what_a_client_owes_an_answer_for(shared_stack: Stack) -> None:
    gateway_door(shared_stack, "gw-credit", max_in_flight=100)
    key = shared_stack.key("operator", system="gw-credit")
    with Client(shared_stack, key=key) as client:
        client.hear()
        client.say(type="credit", n=3)
        client.say(type="ping")
        client.hear()
        for _ in range(10):
            send(shared_stack, "gw-credit")
        got = [client.hear() for _ in range(3)]
        with pytest.raises(TimeoutError):
            client.hear(1)
        client.say(type="ack", delivery_id=got[0]["delivery_id"])
        assert client.hear()["type"] == "delivery"
        client.say(type="credit", n=100)
        assert [client.hear()["type"] for _ in range(6)] == ["delivery"] * 6


def test_a_client_that_leaves_before_its_ack_costs_an_attempt_and_no_message(shared_stack: Stack) -> None:
    gateway_door(shared_stack, "gw-leaver")
    key = shared_stack.key("operator", system="gw-leaver")
    with Client(shared_stack, key=key) as leaver:
        leaver.hear()
        message_id = send(shared_stack, "gw-leaver")
        first = leaver.hear()
    left = awaited(shared_stack, message_id, state="pending", reason="no_client")
    with Client(shared_stack, key=key) as other:
        other.hear()
        again = other.hear(20)
        other.say(type="ack", delivery_id=again["delivery_id"])
        found = awaited(shared_stack, message_id, state="delivered")

    assert (left["attempts"], left["error_class"]) == (1, "connect")
    assert (again["delivery_id"], again["attempt"]) == (first["delivery_id"], 2)
    assert found["attempts"] == 2


def test_one_delivery_goes_to_one_client_and_all_clients_share_the_work(shared_stack: Stack) -> None:
    gateway_door(shared_stack, "gw-many", max_in_flight=64)
    key = shared_stack.key("operator", system="gw-many")
    with Client(shared_stack, key=key) as one, Client(shared_stack, key=key) as two:
        for client in (one, two):
            client.hear()
        sent = {send(shared_stack, "gw-many") for _ in range(20)}
        got = [[client.hear()["message"]["message_id"] for _ in range(10)] for client in (one, two)]

    assert set(got[0]) | set(got[1]) == sent
    assert not set(got[0]) & set(got[1])


def test_a_revoked_key_ends_its_connections_within_five_seconds(shared_stack: Stack, bound: str) -> None:
    made = shared_stack.command("create_api_key", "short-lived", "--role", "operator", "--system", "crm", "--json")
    key = orjson.loads(made.stdout)
    with Client(shared_stack, key=key["key"]) as client, Client(shared_stack, key=bound) as other:
        for one in (client, other):
            one.hear()
        started = time.monotonic()
        assert shared_stack.api("POST", f"keys/{key['id']}/revoke/").status_code in (200, 204)
        code, _ = client.until_closed()
        took_s = time.monotonic() - started
        other.say(type="ping")
        assert other.hear() == {"type": "pong"}

    assert code == 4403
    assert took_s < 5


def test_who_shows_its_key_with_the_request_need_not_wait_for_ready(shared_stack: Stack) -> None:
    """What such a client sends first may be as large as any: who it is was known before the line was open."""
    shared_stack.register("hasty")
    for number in range(5):  # a key each: it is looked up while the frame is on its way
        key = shared_stack.key("operator", system="hasty")
        with Client(shared_stack, key=key, compression=None) as client:
            client.say(type="send", ref=str(number), message={"payload": "x" * 100_000})

            assert client.hear()["type"] == "ready"
            assert client.hear(30)["type"] == "ack"


def test_what_is_too_big_is_closed_with_1009(shared_stack: Stack, bound: str) -> None:
    for options in ({"compression": None}, {}):
        with Client(shared_stack, key=bound, **options) as client:
            client.hear()
            client.say(type="send", message={"payload": "x" * 2_000_000})
            assert client.until_closed(30)[0] == 1009
    with Client(shared_stack, key=bound) as client:
        client.hear()
        client.say(type="send", ref="fits", message={"payload": "x" * 1_000_000})
        assert client.hear(30)["type"] == "ack"
        client.say(type="send", ref="over", message={"payload": "x" * 1_100_000})
        assert client.hear(30)["code"] == "too_large"


def test_a_reply_beyond_what_the_system_may_send_is_an_error_and_the_delivery_stays_owed(shared_stack: Stack) -> None:
    """Nothing would become of it: the client answers again, shorter, or refuses."""
    gateway_door(shared_stack, "gw-verbose")
    with Client(shared_stack, key=shared_stack.key("operator", system="gw-verbose")) as client:
        client.hear()
        for last in ({"type": "reply", "payload": "short"}, {"type": "nack", "reason": "my answer is too long"}):
            sent = send(shared_stack, "gw-verbose", message_type="request")
            delivery_id = client.hear()["delivery_id"]
            client.say(type="reply", ref="long", delivery_id=delivery_id, payload="x" * 1_100_000)
            refused = client.hear(30)

            assert (refused["type"], refused["ref"], refused["code"]) == ("error", "long", "too_large")
            assert "gw-verbose may send 1048576" in refused["detail"]
            assert delivery_of(shared_stack, sent)["state"] == "sending"
            client.say(delivery_id=delivery_id, **last)
            if last["type"] == "reply":
                awaited(shared_stack, sent, state="delivered")
                [response] = shared_stack.api("GET", f"messages/?correlation_id={sent}").json()["results"]
                assert response["message_id"] == delivery_id
        awaited(shared_stack, sent, error="refused by the client: my answer is too long")


@pytest.mark.parametrize("is_bound", [True, False])
def test_clients_of_a_system_that_is_renamed_are_told_to_come_again(shared_stack: Stack, is_bound: bool) -> None:
    """Not that they are forbidden: a client waits long then, and its key is as good as before."""
    old = f"gw-old-{uuid4().hex[:6]}"
    new = old.replace("old", "new")
    gateway_door(shared_stack, old)
    key = shared_stack.key("operator", system=old if is_bound else "")

    def joined(slug: str) -> Client:
        client = Client(shared_stack)
        client.say(type="auth", token=key, **({} if is_bound else {"system": slug}))
        assert client.hear() == {"type": "ready", "system": slug}
        return client

    with joined(old) as client:
        assert shared_stack.api("PATCH", f"systems/{old}/", json={"slug": new}).status_code == 200
        assert client.until_closed()[0] == 1012
        assert new in (client.socket.close_reason or "")
    with joined(new) as client:  # at once
        client.say(type="send", ref="mine", message={"payload": 1})
        acked = client.hear()
        assert acked["type"] == "ack", acked
        sent = send(shared_stack, new)
        delivery = client.hear(30)
        client.say(type="ack", delivery_id=delivery["delivery_id"])
        assert delivery["message"]["message_id"] == sent
        assert awaited(shared_stack, sent, state="delivered")["attempts"] == 1


def test_who_comes_again_in_the_moment_of_the_renaming_is_known(shared_stack: Stack) -> None:
    """What is remembered of a key for a while is which system it is bound to, not what that is called."""
    old = f"gw-old-{uuid4().hex[:6]}"
    gateway_door(shared_stack, old)
    key = shared_stack.key("operator", system=old)
    with Client(shared_stack, key=key) as client:
        assert client.hear()["system"] == old
    assert shared_stack.api("PATCH", f"systems/{old}/", json={"slug": f"{old}-new"}).status_code == 200
    with Client(shared_stack, key=key) as client:
        assert client.hear() == {"type": "ready", "system": f"{old}-new"}
        client.say(type="send", ref="mine", message={"payload": 1})
        acked = client.hear()
        assert acked["type"] == "ack", acked
