"""Sending with the session of the pages: the same checks, answers and storing as in front of Django."""

import json
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from endpoints.models import Membership
from messaging.intake.envelope import FIELDS
from messaging.models import Message
from messaging.openapi import MESSAGE
from tests.messaging.factories import make_endpoint, make_system


@pytest.fixture
def session(transactional_db: None) -> Client:
    """An operator who is logged in to the pages."""
    user = get_user_model().objects.create_user("anna")
    Membership.objects.create(user=user, role="operator")
    make_system("shop")
    make_endpoint(make_system("crm"))
    client = Client()
    client.force_login(user)
    return client


def send(client: Client, data: Any, **headers: str) -> tuple[int, Any]:
    body = data if isinstance(data, bytes) else json.dumps(data)
    response = client.post("/api/v1/messages/", body, content_type="application/json", headers=headers)
    return response.status_code, response.json()


def message(**fields: Any) -> dict[str, Any]:
    return {"source_system": "shop", "target_system": "crm", "payload": {"n": 1}, **fields}


def test_one_message_is_accepted_once_stored(session: Client) -> None:
    status, body = send(session, message(message_id="m-1"))

    assert (status, body) == (202, {"message_id": "m-1", "status": "accepted", "deliveries": 1})
    assert Message.objects.get().message_id == "m-1"


def test_numbers_are_stored_as_they_were_written(session: Client) -> None:
    send(session, b'{"source_system":"shop","target_system":"crm","payload":{"n":1e2,"m":1.0}}')

    assert bytes(Message.objects.get().payload) == b'{"n":1e2,"m":1.0}'


def test_an_array_is_answered_item_by_item(session: Client) -> None:
    status, body = send(session, [message(message_id="m-1"), message(target_system="nobody"), 7])

    assert (status, body["accepted"], body["rejected"]) == (202, 1, 2)
    assert [row["code"] for row in body["results"]] == [None, "unknown_system", "malformed"]


def test_what_is_refused_of_many_is_told_by_the_id_it_gave_itself(session: Client) -> None:
    """Its sender need not have kept the order; an id that is at fault itself is not repeated."""
    batch = [
        message(message_id="m-1", target_system="nobody"),
        message(message_id="m-2", colour="red"),
        message(message_id=7),
        message(target_system="nobody"),
    ]
    assert [row["message_id"] for row in send(session, batch)[1]["results"]] == ["m-1", "m-2", None, None]


def test_an_idempotency_key_answers_the_same_again(session: Client) -> None:
    first = send(session, message(), **{"Idempotency-Key": "k"})[1]
    status, again = send(session, message(), **{"Idempotency-Key": "k"})

    assert (status, again["status"], again["message_id"]) == (202, "duplicate", first["message_id"])
    assert send(session, message(payload=2), **{"Idempotency-Key": "k"})[0] == 422


def test_a_key_that_came_with_a_duplicate_answers_from_then_on(session: Client) -> None:
    """A sender told by its id that it has sent this before may know it by its key alone the next time."""
    send(session, message(message_id="m-1"))
    send(session, message(message_id="m-1"), **{"Idempotency-Key": "k"})
    again = send(session, message(), **{"Idempotency-Key": "k"})[1]
    other = send(session, message(payload=2), **{"Idempotency-Key": "k"})[1]

    assert (again["status"], again["message_id"], again["deliveries"]) == ("duplicate", "m-1", 1)
    assert (other["code"], Message.objects.count()) == ("idempotency_conflict", 1)


def test_a_key_of_a_duplicate_counts_within_its_batch(session: Client) -> None:
    """What comes later in the same batch is compared with it as with a stored one."""
    keyed = [message(message_id="m-1", idempotency_key="k"), message(idempotency_key="k")]
    results = send(session, [message(message_id="m-1"), *keyed])[1]["results"]

    assert [(row["status"], row["message_id"]) for row in results] == [
        ("accepted", "m-1"),
        ("duplicate", "m-1"),
        ("duplicate", "m-1"),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"a":1,"a":2}', 400),
        (b'{"payload":"\\u0000"}', 400),
        (b'{"payload":"\\ud800"}', 400),
        (b'{"payload":1e999}', 400),
        (b"[" * 100 + b"]" * 100, 400),
        (b"\xff", 400),
        (b'{"source_system":"shop","target_system":"nobody","payload":1}', 422),
        (b'{"source_system":"shop","target_system":"crm","payload":1,"colour":"red"}', 400),
        (b'{"source_system":"shop","target_system":"crm"}', 400),
        (b"[" + b"1," * 1000 + b"1]", 413),
        (b'{"payload":"' + b"x" * 2_000_000 + b'"}', 413),
    ],
)
def test_bad_input_is_a_problem_and_stores_nothing(session: Client, body: bytes, expected: int) -> None:
    response = session.post("/api/v1/messages/", body, content_type="application/json")

    assert (response.status_code, response.headers["Content-Type"]) == (expected, "application/problem+json")
    assert not Message.objects.exists()
    assert session.get("/api/v1/messages/").status_code == 200


@pytest.mark.parametrize("header", ["X-Trace", "=x", ""])
def test_the_command_takes_no_header_without_a_value(session: Client, header: str) -> None:
    """What was mistyped is told, not sent as an empty header."""
    with pytest.raises(CommandError, match="takes K=V") as refused:
        call_command("send", "shop", "crm", "--payload", "1", f"--header={header}")

    assert refused.value.returncode == 2
    assert not Message.objects.exists()


def test_the_command_says_that_nobody_takes_a_broadcast(session: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """It is accepted and stored all the same; who waits for its delivery learns that there is none."""
    call_command("send", "shop", "*")
    assert "accepted, but nobody takes broadcasts of shop" in capsys.readouterr().err

    with pytest.raises(SystemExit) as ended:
        call_command("send", "shop", "*", "--wait", "5")
    assert ended.value.code == 1
    assert Message.objects.count() == 2

    capsys.readouterr()
    make_endpoint(make_system("desk", accepts_broadcast=True))
    call_command("send", "shop", "*")
    told = capsys.readouterr()
    assert "1 to deliver" in told.out
    assert told.err == ""


@pytest.mark.parametrize("wait", ["-5", "nan"])
def test_the_command_waits_for_no_time_below_zero(session: Client, wait: str) -> None:
    """It did not wait at all, and said nothing."""
    with pytest.raises(CommandError, match=r"--wait: .* is no length of time"):
        call_command("send", "shop", "crm", "--wait", wait)

    assert not Message.objects.exists()


def test_another_content_type_is_415(session: Client) -> None:
    assert session.post("/api/v1/messages/", b"<a/>", content_type="text/xml").status_code == 415


def test_a_session_needs_its_csrf_token_to_send(session: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = session.cookies

    assert send(strict, message())[0] == 403


def test_the_document_describes_every_field_and_both_ways_in() -> None:
    """The OpenAPI document follows the envelope's own table of fields."""
    paths = SchemaGenerator().get_schema(public=True)["paths"]

    assert MESSAGE["properties"].keys() == FIELDS
    assert {"200", "202", "400", "401", "403", "409", "413", "415", "422", "429", "503"} <= set(
        paths["/api/v1/messages/"]["post"]["responses"]
    )
    for path in ("/to/{system}", "/to/{system}/{interface}"):
        assert {"202", "413", "422"} <= paths[path]["post"]["responses"].keys()
