"""How many sockets and waiting calls one key and one address may have, and what those are told that are too many."""

import resource
import socket
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed

from tests.acceptance.gateway_client import Client
from tests.acceptance.inbox import Inbox, PullLink
from tests.acceptance.test_pull import asked
from tests.stack import Stack

pytestmark = pytest.mark.timeout(180)
PER_ADDRESS, PER_KEY = 5, 3
BY_DEFAULT = 2000  # of one key
FULL = 1013


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    stack = make_stack(
        CONTROLPLANE_CONNECTIONS_PER_ADDRESS=str(PER_ADDRESS), CONTROLPLANE_CONNECTIONS_PER_KEY=str(PER_KEY)
    )
    stack.start("web")
    return stack


def test_a_key_and_an_address_have_no_more_sockets_than_they_may(stack: Stack) -> None:
    """The next one is told so with 1013; those who said nobody's name count; who leaves makes room."""
    mine, other = stack.key("operator"), stack.key("viewer")
    with ExitStack() as exits:
        open_ones = [exits.enter_context(Client(stack, key=mine)) for _ in range(PER_KEY)]
        for client in open_ones:
            assert client.hear()["type"] == "ready"
        with Client(stack, key=mine) as fourth:
            code, heard = fourth.until_closed()
            assert (code, heard, "key" in str(fourth.socket.close_reason)) == (FULL, [], True)
        with Client(stack, key=other) as allowed, Client(stack):  # the second one does not say who it is
            assert allowed.hear()["type"] == "ready"
            with Client(stack, key=other) as sixth:
                assert sixth.until_closed()[0] == FULL
                assert "address" in str(sixth.socket.close_reason)
        open_ones[0].socket.close()

        def there_is_room() -> bool:
            with Client(stack, key=mine) as again:
                try:
                    return bool(again.hear()["type"] == "ready")
                except ConnectionClosed:
                    return False

        stack.wait_for(there_is_room, what="room for one more")
    assert stack.log("web", 1000).count("too_many_connections") == 2  # one line each, of many within a while


def test_one_key_with_all_the_sockets_it_may_have_leaves_room_for_others(make_stack: Callable[..., Stack]) -> None:
    """By the limits that hold unless they are set: the next socket of the key is told 1013, and all else is served."""
    wanted = 4096
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may have {hard} files, and {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    stack = make_stack()
    stack.start("web")
    key = stack.key("operator")
    head = (
        f"GET /ws/v1/gateway/ HTTP/1.1\r\nHost: 127.0.0.1:{stack.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    )
    with ExitStack() as exits:
        for _ in range(BY_DEFAULT):
            taken = exits.enter_context(socket.create_connection(("127.0.0.1", stack.port), timeout=60))
            taken.sendall(head.encode())
            assert b" 101 " in taken.recv(64)
        with Client(stack, key=key) as one_more:
            assert one_more.until_closed(30)[0] == FULL
        assert stack.api("GET", "systems/").status_code == 200


def test_a_key_has_no_more_calls_waiting_than_it_may(stack: Stack) -> None:
    """The next one is answered 429 with Retry-After, and what it would have got is left to the others."""
    stack.start("deliver")
    link = PullLink(stack)
    with ThreadPoolExecutor(PER_KEY + 1) as pool:
        waiting = [
            pool.submit(Inbox(stack, link.target, link.inbox.key).ask, wait=50, max=1) for _ in range(PER_KEY + 1)
        ]
        done, _ = wait(waiting, timeout=30, return_when=FIRST_COMPLETED)
        refused = [each.result() for each in done]
        link.send_many(PER_KEY)
        fetched = [each for future in waiting if future not in done for each in future.result().json()["results"]]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(429, "limit")]
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert link.inbox.ask().status_code == 200
    assert len(fetched) == PER_KEY


def test_whose_role_ends_while_it_waits_gets_nothing(stack: Stack) -> None:
    """An operator of the team may fetch; once it is a viewer, what comes is left to others, as when its key is gone."""
    stack.start("deliver")
    link = PullLink(stack)
    key = stack.key("operator")
    asking = Inbox(stack, link.target, key)
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Any] = pool.submit(asking.ask, wait=40)
        stack.wait_for(lambda: asked(link), what="the inbox being asked")
        stack.sql("UPDATE endpoints_apikey SET role = 'viewer' WHERE name LIKE ?", "test-operator-%")
        stack.wait_for(lambda: asking.ask().status_code == 403, what="the role being gone")
        (sent,) = link.send_many(1)
        answer = waiting.result()
    (again,) = link.inbox.fetch(wait=20)

    assert answer.status_code == 403
    assert again["message"]["message_id"] == sent


def test_a_key_waits_for_no_more_outcomes_than_it_may(stack: Stack) -> None:
    """One more is refused before anything of it is stored; other keys, and calls that do not wait, go on."""
    stack.register("shop")
    stack.register("crm", "http://127.0.0.1:9")  # nobody delivers: each waits for as long as it asked
    mine, other = stack.key("operator"), stack.key("operator", system="shop")

    def send(wait_s: float, key: str = mine) -> requests.Response:
        message = {"source_system": "shop", "target_system": "crm", "payload": 1}
        headers = {"X-API-Key": key}
        return requests.post(f"{stack.url}/api/v1/messages/?wait={wait_s}", json=message, headers=headers, timeout=60)

    def stored() -> int:
        return int(stack.sql("SELECT count(*) FROM messaging_message")[0][0])

    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(send, 20) for _ in range(PER_KEY)]
        stack.wait_for(lambda: stored() == PER_KEY, what="all of them waiting")
        refused = send(5)

        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "limit", "10")
        assert [send(0).status_code, send(0.1, other).status_code] == [202, 202]
        assert [each.result().status_code for each in waiting] == [202] * PER_KEY
    assert (send(0.1).status_code, stored()) == (202, PER_KEY + 3)


def test_who_hangs_up_while_it_waits_for_an_outcome_leaves_its_place_at_once(stack: Stack) -> None:
    """The next call of its key finds room long before the time of the first ones is over; their messages are stored."""
    stack.register("shop")
    stack.register("crm", "http://127.0.0.1:9")  # nobody delivers
    key = stack.key("operator")
    message = {"source_system": "shop", "target_system": "crm", "payload": 1}

    def send(wait_s: float, timeout: float) -> int:
        url = f"{stack.url}/api/v1/messages/?wait={wait_s}"
        return requests.post(url, json=message, headers={"X-API-Key": key}, timeout=timeout).status_code

    for _ in range(PER_KEY):
        with pytest.raises(requests.Timeout):
            send(60, 1)
    stack.wait_for(lambda: send(0.1, 10) == 202, 10, "a place for one more")

    assert stack.sql("SELECT count(*) FROM messaging_message")[0][0] == PER_KEY + 1
