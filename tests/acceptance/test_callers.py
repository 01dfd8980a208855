"""Who may send what: roles, bound keys and teams at the hot intake, and how quickly a revoked key stops."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from tests.acceptance.link import Link
from tests.servers.http import HttpReceiver
from tests.stack import Stack


@pytest.fixture
def link(shared_stack: Stack, http_receiver: HttpReceiver) -> Link:
    return Link(shared_stack, http_receiver.url)


@pytest.fixture
def second_web(shared_stack: Stack) -> Iterator[Stack]:
    """Another web process of the same installation, at a port of its own."""
    stack = Stack(shared_stack.var, shared_stack.database_url)
    stack.start("web", name="web2")
    yield stack
    stack.close()


def made_key(link: Link, **fields: str) -> tuple[str, str]:
    """Return (id, key) of a new API key."""
    answer = link.stack.api("POST", "keys/", json={"name": f"of {link.source}", **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["key"]


def stored(link: Link) -> int:
    query = "SELECT count(*) FROM messaging_message WHERE source_id = (SELECT id FROM endpoints_system WHERE slug = ?)"
    return int(link.stack.sql(query, link.source)[0][0])


def refusal(link: Link) -> str:
    """Return the code of what is said against a message now, "" for nothing."""
    answer = link.post()
    return "" if answer.status_code == 202 else str(answer.json()["code"])


def test_a_viewer_cannot_send(link: Link) -> None:
    """403 at every way in, and nothing is stored."""
    _, key = made_key(link, role="viewer")
    raw = link.stack.api("POST", f"/to/{link.target}", data=b"x", key=key, headers={"X-Source-System": link.source})
    batch = link.stack.api("POST", "messages/", json=[link.message()], key=key)
    stream = link.stack.api("POST", "messages/", data=b"{}", key=key, headers={"Content-Type": "application/x-ndjson"})

    answers = [link.post(key=key), raw, batch, stream]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "forbidden")] * 4
    assert stored(link) == 0


def test_a_bound_key_speaks_as_its_system_and_no_other(link: Link, shared_stack: Stack) -> None:
    """It need not say who it is, and it cannot say that it is somebody else."""
    _, key = made_key(link, role="operator", system=link.source)
    own = link.post(key=key, source_system=None)
    other = link.post(key=key, source_system=link.target)
    raw = shared_stack.api("POST", f"/to/{link.target}", data=b"x", key=key)
    forged = shared_stack.api(
        "POST", f"/to/{link.target}", data=b"x", key=key, headers={"X-Source-System": link.target}
    )

    assert (own.status_code, raw.status_code) == (202, 202)
    assert [(answer.status_code, answer.json()["code"]) for answer in (other, forged)] == [(403, "wrong_source")] * 2
    assert link.ended(own.json()["message_id"])["source_system"] == link.source


def test_a_key_in_either_header_is_the_same_key(link: Link) -> None:
    """Two different ones are not a choice."""
    _, key = made_key(link, role="operator")
    url, body = f"{link.stack.url}/api/v1/messages/", link.message()
    headers = [{"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"X-API-Key": key, "Authorization": "Bearer x"}]

    assert [requests.post(url, json=body, headers=h, timeout=10).status_code for h in headers] == [202, 202, 401]


def test_another_teams_system_takes_only_whom_it_accepts(link: Link, shared_stack: Stack) -> None:
    """A system that names whom it accepts is closed to the others, and says so."""
    shared_stack.api("PATCH", f"systems/{link.target}/", json={"accepts_from": ["somebody-else"]})
    shared_stack.wait_for(lambda: refusal(link) == "not_accepted", what="the change being known")

    shared_stack.api("PATCH", f"systems/{link.target}/", json={"accepts_from": [link.source]})
    shared_stack.wait_for(lambda: refusal(link) == "", what="the change being known")


def test_a_retired_system_neither_sends_nor_receives(link: Link, shared_stack: Stack) -> None:
    shared_stack.api("POST", f"systems/{link.target}/retire/", json={})

    shared_stack.wait_for(lambda: refusal(link) == "retired", what="the change being known")


@pytest.mark.parametrize("way", ["api", "command"])
def test_a_revoked_key_stops_within_a_second_in_every_process(link: Link, second_web: Stack, way: str) -> None:
    """Each process remembers a caller for less than that, whoever revokes and wherever."""
    key_id, key = made_key(link, role="operator")
    body, urls = link.message(), [f"{stack.url}/api/v1/messages/" for stack in (link.stack, second_web)]
    taken: list[float] = []  # when a request was sent that was still accepted
    with ExitStack() as sessions:
        clients = [sessions.enter_context(requests.Session()) for _ in urls]
        for client in clients:
            client.headers["X-API-Key"] = key

        def status(client: requests.Session, url: str) -> int:
            sent = time.monotonic()
            found = client.post(url, json=body, timeout=30).status_code
            taken.extend([sent] if found == 202 else [])
            return found

        def statuses() -> list[int]:
            return [status(client, url) for client, url in zip(clients, urls, strict=True)]

        assert statuses() == [202, 202]
        if way == "api":
            link.act(f"keys/{key_id}/revoke/")
        else:
            assert link.stack.command("revoke_api_key", key_id).returncode == 0
        revoked = time.monotonic()
        link.stack.wait_for(lambda: statuses() == [401, 401], what="both processes refusing the key")

    assert max(taken) - revoked <= 1
