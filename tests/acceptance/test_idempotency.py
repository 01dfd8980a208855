"""A message said twice is stored once, and what is said about half of a batch is true of that half."""

import socket
from collections import Counter
from typing import Any

import orjson
import pytest

from tests.acceptance.ledgers import post_all
from tests.acceptance.link import Link
from tests.servers.http import HttpReceiver
from tests.stack import Stack


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    return Link(shared_stack, http_receiver.url)


def stored(link: Link) -> int:
    """Return how many messages of this link's sender there are."""
    query = "SELECT count(*) FROM messaging_message WHERE source_id = (SELECT id FROM endpoints_system WHERE slug = ?)"
    return int(link.stack.sql(query, link.source)[0][0])


def ndjson(link: Link, lines: list[bytes]) -> Any:
    headers = {"Content-Type": "application/x-ndjson"}
    return link.stack.api("POST", "messages/", data=b"\n".join(lines), headers=headers)


def test_one_key_fifty_times_at_once_stores_one_message(link: Link, http_receiver: HttpReceiver) -> None:
    """All fifty get the same answer but for one word, and the receiver gets one request."""
    bodies = [link.message()] * 50
    answers = post_all(link.stack, bodies, connections=50, headers={"Idempotency-Key": "order-1"})

    assert {status for status, _ in answers} == {202}
    assert len({answer["message_id"] for _, answer in answers}) == 1
    assert Counter(answer["status"] for _, answer in answers) == {"accepted": 1, "duplicate": 49}
    link.ended(answers[0][1]["message_id"])
    assert (stored(link), len(http_receiver.received)) == (1, 1)


def test_one_key_with_another_body_is_a_conflict(link: Link) -> None:
    """422, and nothing is stored."""
    link.post(headers={"Idempotency-Key": "k"})
    answer = link.post(headers={"Idempotency-Key": "k"}, payload={"n": 2})

    assert (answer.status_code, answer.json()["code"], stored(link)) == (422, "idempotency_conflict", 1)


def test_a_key_that_is_empty_or_another_than_the_body_s_is_refused(link: Link, shared_stack: Stack) -> None:
    """Taken, either would store what the sender holds for one message twice."""
    link.post(idempotency_key="one")
    empty = link.post(headers={"Idempotency-Key": ""}, idempotency_key="one")
    other = link.post(headers={"Idempotency-Key": "two"}, idempotency_key="one")
    raw = {"X-Source-System": link.source, "Idempotency-Key": ""}
    plain = shared_stack.api("POST", f"/to/{link.target}", data=b"x", headers=raw)

    assert [answer.status_code for answer in (empty, other, plain)] == [400, 400, 400]
    assert "must not be empty" in empty.json()["detail"]
    assert "differ" in other.json()["detail"]
    assert stored(link) == 1
    again = link.post(headers={"Idempotency-Key": "one"}, idempotency_key="one").json()
    assert again["status"] == "duplicate"


def test_one_key_of_two_senders_is_two_messages(link: Link, shared_stack: Stack) -> None:
    """A key is its sender's own."""
    other = Link(shared_stack, None)
    first = link.post(idempotency_key="k").json()
    second = shared_stack.api("POST", "messages/", json=other.message(target_system=link.target, idempotency_key="k"))

    assert (second.status_code, second.json()["status"]) == (202, "accepted")
    assert second.json()["message_id"] != first["message_id"]


def test_one_message_id_again_is_a_duplicate(link: Link) -> None:
    """Even where the sender stamped it anew; other content under the same id is 422."""
    answers = [
        link.post(message_id="m-1", timestamp="2026-01-02T03:04:05Z"),
        link.post(message_id="m-1", timestamp="2026-01-02T03:04:06Z"),
        link.post(message_id="m-1", payload={"n": 2}),
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 422]
    assert [answer.json().get("status") for answer in answers[:2]] == ["accepted", "duplicate"]
    assert answers[1].json()["deliveries"] == 1
    assert (answers[2].json()["code"], stored(link)) == ("id_conflict", 1)


def test_a_batch_takes_the_good_and_names_the_bad(link: Link) -> None:
    """One bad message does not sink the others, and a duplicate within the batch is one."""
    batch = [
        link.message(message_id="b-1"),
        link.message(message_id="b-1"),
        link.message(message_id="b-1", payload=2),
        link.message(message_id="b-3", target_system="nobody-there"),
        link.message(message_id="b-4", colour="red"),
        7,
        link.message(message_id="b-2"),
    ]
    answer = link.stack.api("POST", "messages/", json=batch)

    assert answer.status_code == 202
    found = answer.json()
    assert (found["accepted"], found["duplicate"], found["rejected"]) == (2, 1, 4)
    assert [row["code"] for row in found["results"]] == [
        *(None, None, "id_conflict", "unknown_system", "invalid", "malformed", None)
    ]
    named = ["b-1", "b-1", "b-1", "b-3", "b-4", None, "b-2"]
    assert [row["message_id"] for row in found["results"]] == named
    assert stored(link) == 2


def test_a_stream_takes_the_good_lines_and_lists_the_bad(link: Link) -> None:
    """However long it is, only what was rejected is listed, by its place."""
    lines = [orjson.dumps(link.message(message_id=f"s-{n}")) for n in range(1500)]
    lines[700] = b'{"payload": '
    lines[1200] = orjson.dumps(link.message(message_id="s-1200", target_system="nobody-there"))

    found = ndjson(link, lines).json()

    assert (found["accepted"], found["duplicate"], found["rejected"]) == (1498, 0, 2)
    assert [(row["index"], row["message_id"], row["code"]) for row in found["results"]] == [
        (700, None, "malformed"),
        (1200, "s-1200", "unknown_system"),
    ]
    assert stored(link) == 1498


def test_a_stream_that_breaks_leaves_its_beginning_and_may_come_again(link: Link) -> None:
    """What came whole is stored, in order from the first; sending all of it again stores the rest."""
    lines = [orjson.dumps(link.message(message_id=f"s-{n}")) for n in range(3000)]
    body = b"\n".join(lines)
    head = (
        f"POST /api/v1/messages/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {link.stack.key()}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    part = body[: len(body) * 2 // 3]
    complete = part.count(b"\n")
    with socket.create_connection(("127.0.0.1", link.stack.port)) as connection:
        connection.sendall(head.encode() + part)
        link.stack.wait_for(lambda: stored(link) == complete, what="every whole line stored, with no end in sight")

    query = "SELECT message_id FROM messaging_message m JOIN endpoints_system s ON s.id = m.source_id WHERE s.slug = ?"
    kept = [row[0] for row in link.stack.sql(f"{query} ORDER BY position", link.source)]
    assert kept == [f"s-{n}" for n in range(complete)]
    again = ndjson(link, lines).json()
    assert (again["duplicate"], again["accepted"], again["rejected"]) == (complete, 3000 - complete, 0)


@pytest.mark.parametrize("name", ["message_id", "idempotency_key"])
def test_a_name_survives_until_the_answer_is_lost(link: Link, name: str) -> None:
    """A sender that never saw the answer sends again and learns the first message's id."""
    first = link.post(**{name: "same"}).json()
    again = link.post(**{name: "same"}).json()

    assert (again["status"], again["message_id"]) == ("duplicate", first["message_id"])


def test_a_repetition_is_one_whatever_keys_are_declared_meanwhile(link: Link) -> None:
    """What the registry takes out of a message is not what its sender said."""
    named, keyed = {"message_id": "m-1", "payload": {"order": 1}}, {"idempotency_key": "k-1", "payload": {"order": 2}}
    first = [link.post(**named).json(), link.post(**keyed).json()]
    declared = {"search_keys": [{"name": "order", "from": "payload.$.order"}]}
    assert link.stack.api("PATCH", f"systems/{link.source}/", json=declared).status_code == 200

    def indexed() -> bool:
        fresh = link.send(payload={"order": 3})
        query = "SELECT value FROM messaging_searchkey k JOIN messaging_message m ON k.message_id = m.position"
        return link.stack.sql(f"{query} WHERE m.message_id = ?", fresh) == [("3",)]

    link.stack.wait_for(indexed, what="the declaration taking effect")
    again = [link.post(**named), link.post(**keyed)]

    assert [answer.status_code for answer in again] == [202, 202]
    assert [answer.json() for answer in again] == [{**answer, "status": "duplicate"} for answer in first]
