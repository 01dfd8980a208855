"""What one caller, one row or one stray file must not do to the others at the way in."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import requests

from messaging.intake.bodies import Body, Budget
from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack


def in_background(call: Callable[[], requests.Response]) -> tuple[threading.Thread, list[requests.Response]]:
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def test_a_flood_of_unknown_fields_hold_up_nobody(shared_stack: Stack) -> None:
    """Only the first few are explained: one body must not keep a process busy for a minute."""
    body = ("{" + ",".join(f'"messag{n}":1' for n in range(300_000)) + "}").encode()
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
    stack = make_stack()
    stack.start("web")
    link = Link(stack, None)
    stack.register(f"{link.target}-2", "http://127.0.0.1:9")
    message = {"source_system": link.source, "target_system": f"{link.target}-2", "payload": 1}
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
