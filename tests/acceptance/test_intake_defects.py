"""What one caller, one row or one stray file must not do to the others at the way in."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
import requests

from messaging.intake.bodies import Body, Budget
from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack, wait_for

STORED_OF = "SELECT count(*) FROM messaging_message WHERE source_id = (SELECT id FROM endpoints_system WHERE slug = ?)"


def in_background(call: Callable[[], requests.Response]) -> tuple[threading.Thread, list[requests.Response]]:
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_a_flood_of_unknown_fields_hold_up_nobody(shared_stack: Stack) -> None:
    """Only the first few are explained: one body must not keep a process busy for a minute."""
    body = ("{" + ",".join(f'"messag{n}":1' for n in range(180_000)) + "}").encode()
    headers = {"Content-Type": "application/json"}

    answer = shared_stack.api("POST", "messages/", data=body, headers=headers)

    assert answer.status_code == 400
    assert 1 <= len(answer.json()["errors"]) <= 20
    assert answer.elapsed.total_seconds() < 20


def test_a_long_line_takes_time_in_proportion() -> None:
    """Each part of an NDJSON line is looked at once, however many there are."""
    parts = [b'{"n":"' + b"x" * 4090] + [b"x" * 4096] * 8000 + [b'"}\nlast', b" line"]
    left = iter(parts)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(left), "more_body": left.__length_hint__() > 0}

    async def lines() -> list[bytes]:
        return [line async for lot in Body(receive, Budget()).lots() for line in lot]

    begun = time.process_time()
    found = asyncio.run(lines())

    assert found == b"".join(parts).split(b"\n")
    assert time.process_time() - begun < 5


def test_one_who_may_not_send_is_refused_before_the_body(shared_stack: Stack) -> None:
    """A viewer's stream of messages is a 403, not a list of a thousand rejections."""
    headers = {"Content-Type": "application/x-ndjson"}

    answer = shared_stack.api("POST", "messages/", data=b"{}\n" * 10, headers=headers, key=shared_stack.key("viewer"))

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_two_names_of_one_door_are_one_delivery(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """`crm` and `crm/main` are the same interface, which gets a message once."""
    link = Link(shared_stack, http_receiver.url)

    answer = link.post(target_system=[link.target, f"{link.target}/main"])

    assert (answer.status_code, answer.json()["deliveries"]) == (202, 1)


def test_a_hidden_target_answers_like_one_that_is_not_there(shared_stack: Stack) -> None:
    """A team cannot find out which names other teams have registered."""
    tag = uuid4().hex[:8]
    for name in ("ours", "theirs"):
        team = f"{name}-{tag}"
        made = shared_stack.command(
            "shell", "-c", f"from django.contrib.auth.models import Group as G; G(name='{team}').save()"
        )
        assert made.returncode == 0, made.stderr
        shared_stack.register(f"{name}-system-{tag}", "http://127.0.0.1:9", system_fields={"owner": team})
    key = shared_stack.key("operator", team=f"ours-{tag}")

    def refusal(target: str) -> tuple[int, str, str]:
        message = {"source_system": f"ours-system-{tag}", "target_system": target, "payload": 1}
        answer = shared_stack.api("POST", "messages/", json=message, key=key)
        return answer.status_code, answer.json()["code"], answer.json()["detail"].replace(target, "it")

    assert refusal(f"theirs-system-{tag}") == refusal("nobody-there")


def test_each_of_two_who_wait_for_one_message_is_told(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """One whose time is up first does not take the news from the other."""
    http_receiver.answer(Answer(200, delay_s=4.0))
    link = Link(shared_stack, http_receiver.url)
    name = f"m-{uuid4()}"
    url = f"{shared_stack.url}/api/v1/messages/"
    headers = {"X-API-Key": shared_stack.key()}
    body = link.message(message_id=name)
    patient, told = in_background(lambda: requests.post(f"{url}?wait=40", json=body, headers=headers, timeout=60))
    http_receiver.wait_for(1)

    hasty = requests.post(f"{url}?wait=0.2", json=body, headers=headers, timeout=30)
    patient.join()

    assert (hasty.status_code, told[0].status_code) == (202, 200)
    assert told[0].elapsed.total_seconds() < 30


def test_who_waits_for_a_purged_message_is_answered(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Its key outlives it: the sender is told, at once, that nothing is open any more."""
    stack = make_stack()
    for role in ("web", "deliver", "worker"):
        stack.start(role)
    link = Link(stack, http_receiver.url)
    name = link.send(idempotency_key="k")
    link.ended(name)
    job = link.act("jobs/", {"action": "purge", "filter": {"message_id": name}})
    stack.wait_for(lambda: stack.api("GET", f"jobs/{job['id']}/").json()["state"] == "done", what="the purge")

    answer = stack.api("POST", "messages/?wait=30", json=link.message(idempotency_key="k"))

    told = {"message_id": name, "status": "duplicate", "deliveries": [], "response": None}
    assert (answer.status_code, answer.json()) == (200, told)
    assert answer.elapsed.total_seconds() < 20


def test_a_stray_file_among_the_listeners_stops_no_intake(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """What lies in the folder of wake-ups and is not ours is passed over."""
    (shared_stack.var / "run" / "wake" / "due-stray").touch()
    link = Link(shared_stack, http_receiver.url)

    def accepted() -> bool:
        time.sleep(0.3)
        return link.post().status_code == 202

    assert all(accepted() for _ in range(5))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # of SQLite it is the disk that says so
def test_a_read_only_database_is_no_fault_of_the_senders(make_stack: Callable[..., Stack]) -> None:
    """After a failover the answer is 503, which is tried again, and never a 4xx, which is not; then it heals."""
    stack, message = _only_taken(make_stack)
    name = stack.database_url.rpartition("/")[2]

    def switch(value: str) -> None:
        with psycopg.connect(stack.database_url, autocommit=True) as server:
            server.execute("SET default_transaction_read_only = off")
            server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    key = stack.key()
    switch("on")
    statuses = {stack.api("POST", "messages/", json=message, key=key).status_code for _ in range(4)}
    switch("off")

    assert statuses == {503}
    stack.wait_for(lambda: stack.api("POST", "messages/", json=message, key=key).status_code == 202, what="healing")


def test_long_messages_with_many_keys_to_find_hold_up_nobody(shared_stack: Stack) -> None:
    """Paths are followed beside the loop, and give up: others are answered while a message is looked through."""
    tag = uuid4().hex[:8]
    keys = [{"name": f"k{n}", "from": f"payload.$..id{n}"} for n in range(20)]
    shared_stack.register(f"from-{tag}", system_fields={"search_keys": keys})
    shared_stack.register(f"to-{tag}", "http://127.0.0.1:9")
    message = {
        "source_system": f"from-{tag}",
        "target_system": f"to-{tag}",
        "payload": [{"a": n} for n in range(60_000)],
    }
    session = requests.Session()
    key = shared_stack.key()
    sending, told = in_background(lambda: shared_stack.api("POST", "messages/", json=message, key=key, timeout=100))
    worst = 0.0
    while sending.is_alive():
        begun = time.monotonic()
        assert session.get(f"{shared_stack.url}/nowhere", timeout=100).status_code == 404
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.02)

    assert told[0].status_code == 202
    assert worst < 2


def test_a_key_of_a_long_message_is_found(shared_stack: Stack) -> None:
    """Where the way is straight, or short, the length of the rest does not matter; a text is a document, too."""
    link = Link(shared_stack, "http://127.0.0.1:9")
    keys = {"straight": "$.order.id", "first": "$..line", "filtered": "$.lines[?@.line > 6.5].line"}
    declared = [{"name": name, "from": f"payload.{path}"} for name, path in keys.items()]
    assert shared_stack.api("PATCH", f"systems/{link.source}/", json={"search_keys": declared}).status_code == 200
    payload = {"order": {"id": 4711}, "lines": [{"price": 1.5, "line": 6}, {"line": 7}], "more": [1.5] * 50_000}

    def found() -> dict[str, str]:
        query = (
            "SELECT k.name, k.value FROM messaging_searchkey k JOIN messaging_message m ON k.message_id = m.position"
        )
        return dict(shared_stack.sql(f"{query} WHERE m.message_id = ?", link.send(payload=payload)))

    shared_stack.wait_for(found, what="the declaration taking effect")
    assert found() == {"straight": "4711", "first": "6", "filtered": "7"}
    assert link.post(payload="[a text").status_code == 202


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_batch_of_which_nothing_could_be_stored_is_to_be_tried_again(make_stack: Callable[..., Stack]) -> None:
    """A malformed one among them does not make a database that is down the fault of the others."""
    stack, good = _only_taken(make_stack)
    bad = {**good, "nonsense": 1}
    name, key = stack.database_url.rpartition("/")[2], stack.key()
    lines = b"\n".join(map(orjson.dumps, (good, bad)))
    ndjson = {"Content-Type": "application/x-ndjson"}
    server = psycopg.connect(stack.database_url.replace(name, "postgres"), autocommit=True)

    def send(**body: Any) -> requests.Response:
        return stack.api("POST", "messages/", key=key, **body)

    def allow(value: str) -> None:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {value}')

    def one_goes_down(**body: Any) -> requests.Response:
        """Return the answer of a database that goes while caller and systems are still remembered."""
        for _ in range(20):
            allow("true")
            stack.wait_for(lambda: send(json=[good]).status_code == 202, what="healing")
            allow("false")
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            answer = send(**body)
            if "does not answer" not in answer.text:  # else the memory of them was over
                break
        return answer

    with server:
        answers = [one_goes_down(json=[good, bad]), one_goes_down(data=lines, headers=ndjson)]
        allow("true")
    stack.wait_for(lambda: send(json=[good]).status_code == 202, what="healing")

    assert [answer.status_code for answer in answers] == [503, 503]
    assert "0 accepted" in answers[1].json()["detail"]
    both = send(json=[good, bad])
    assert (both.status_code, both.json()["rejected"]) == (202, 1)


def _revocable(stack: Stack) -> tuple[str, Callable[[], None]]:
    """Return a key, and what revokes it and waits until that holds."""
    done = stack.command("create_api_key", f"leaked-{uuid4().hex[:6]}", "--role", "operator", "--json")
    made = orjson.loads(done.stdout)

    def revoke() -> None:
        assert stack.command("revoke_api_key", made["id"]).returncode == 0
        wait_for(lambda: stack.api("GET", "messages/", key=made["key"]).status_code == 401)
        time.sleep(1)  # so long it may be remembered by others

    return made["key"], revoke


def test_a_stream_ends_with_the_key_that_opened_it(shared_stack: Stack) -> None:
    """What came before the key was revoked stays and is told; nothing more is stored."""
    link = Link(shared_stack, "http://127.0.0.1:9")
    key, revoke = _revocable(shared_stack)
    lines = [orjson.dumps(link.message(message_id=f"m-{n}")) + b"\n" for n in range(3)]

    def stored() -> int:
        return int(shared_stack.sql(STORED_OF, link.source)[0][0])

    def parts() -> Iterator[bytes]:
        yield lines[0]
        shared_stack.wait_for(lambda: stored() == 1)
        revoke()
        yield lines[1]
        yield lines[2]

    headers = {"Content-Type": "application/x-ndjson"}
    answer = shared_stack.api("POST", "messages/", data=parts(), headers=headers, key=key, timeout=60)

    assert (answer.status_code, stored()) == (401, 1)
    assert "1 accepted" in answer.json()["detail"]


def test_a_body_that_came_slowly_needs_a_key_that_still_holds(shared_stack: Stack) -> None:
    """Who is calling is asked again once the body is here."""
    link = Link(shared_stack, "http://127.0.0.1:9")
    key, revoke = _revocable(shared_stack)
    body = orjson.dumps(link.message())

    def parts() -> Iterator[bytes]:
        yield body[:10]
        revoke()
        yield body[10:]

    answer = shared_stack.api("POST", "messages/", data=parts(), headers={"Content-Type": "application/json"}, key=key)

    assert answer.status_code == 401


def test_the_outcome_is_for_a_key_that_still_holds(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """A key that was revoked during `?wait=` is told that its message was stored, and no more."""
    http_receiver.answer(Answer(200, body=b"secret", delay_s=15.0))
    link = Link(shared_stack, http_receiver.url, timeout_s=30)
    key, revoke = _revocable(shared_stack)
    body = link.message(message_id="waits-1")
    sent, told = in_background(lambda: shared_stack.api("POST", "messages/?wait=40", json=body, key=key, timeout=60))
    http_receiver.wait_for(1)
    revoke()
    sent.join()

    assert told[0].status_code == 401
    assert "'waits-1' was accepted" in told[0].json()["detail"]


def test_those_who_wait_hold_no_room_that_others_need(shared_stack: Stack) -> None:
    """Bodies count until they are stored: five times the largest is more than a process holds at once."""
    tag = uuid4().hex[:8]
    shared_stack.register(f"from-{tag}", system_fields={"max_message_bytes": 25 * 1024 * 1024})
    shared_stack.register(f"to-{tag}", "http://127.0.0.1:9")
    assert shared_stack.api("POST", f"systems/to-{tag}/pause/", json={}).status_code == 200
    headers = {"X-Source-System": f"from-{tag}", "X-API-Key": shared_stack.key(), "Content-Type": "text/plain"}
    url = f"{shared_stack.url}/to/to-{tag}?wait=30"
    body = b"x" * 24 * 1024 * 1024
    waiting = []
    for n in range(1, 6):
        waiting.append(in_background(lambda: requests.post(url, data=body, headers=headers, timeout=90)))
        shared_stack.wait_for(lambda n=n: shared_stack.sql(STORED_OF, f"from-{tag}") == [(n,)], 25, f"{n} being stored")
    for thread, _ in waiting:
        thread.join()

    assert [told[0].status_code for _, told in waiting] == [202] * 5


@pytest.mark.parametrize("sent", ["K\u00f6ln-1".encode(), "K\u00f6ln-1".encode("latin-1")], ids=["utf-8", "latin-1"])
def test_a_header_is_read_as_we_write_it(shared_stack: Stack, sent: bytes) -> None:
    """UTF-8, as our own deliveries send it; what is none is Latin-1."""
    link = Link(shared_stack, "http://127.0.0.1:9")
    headers = {"X-Source-System": link.source, "X-Correlation-Id": sent, "Content-Type": "text/plain"}

    answer = shared_stack.api("POST", f"/to/{link.target}", data=b"x", headers=headers)

    assert answer.status_code == 202
    query = "SELECT correlation_id FROM messaging_message WHERE message_id = ?"
    assert shared_stack.sql(query, answer.json()["message_id"]) == [("K\u00f6ln-1",)]


def _only_taken(make_stack: Callable[..., Stack]) -> tuple[Stack, dict[str, Any]]:
    """Return a stack that takes messages and sends none, and a message that it takes."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, None)
    stack.register(f"{link.target}-2", "http://127.0.0.1:9")
    return stack, {"source_system": link.source, "target_system": f"{link.target}-2", "payload": 1}
