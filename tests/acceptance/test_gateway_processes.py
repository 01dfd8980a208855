"""The gateway over several processes: killed, two at once, beside other protocols, and with recipients."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import jwt
import orjson
import pytest

from tests.acceptance.gateway_client import Client, awaited, delivery_of, gateway_door, send
from tests.acceptance.gateway_ledger import Clients
from tests.acceptance.holding import nothing_is_stored
from tests.acceptance.ledgers import compare, demand_balance, drain
from tests.peers.foreign import ENVIRONMENT, need, script
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port
from tests.stack import Stack

KILLS = 8  # of web and of deliver in turn
LEASE_S = 2
SECRET = "a static secret of at least thirty-two bytes"
pytestmark = pytest.mark.timeout(600)


def second_web(stack: Stack) -> str:
    """Start another web process on the same database; return its URL."""
    first, stack.port = stack.port, free_port()
    url, stack.url = stack.url, f"http://127.0.0.1:{stack.port}"
    try:
        stack.start("web", name="web2")
        return stack.url
    finally:
        stack.port, stack.url = first, url


def test_kills_of_web_and_deliver_lose_nothing_that_was_acknowledged(make_stack: Callable[..., Stack]) -> None:
    """SIGKILL under load, clients that come back: acked = stored, all of it delivered, duplicates explained."""
    stack = make_stack(CONTROLPLANE_LEASE_S=str(LEASE_S))
    for role in ("web", "deliver"):
        stack.start(role)
    gateway_door(stack, "gw-a")
    gateway_door(stack, "gw-b", retry_schedule_s=[0.2])
    clients = Clients(stack, "gw-a", "gw-b")
    clients.start()
    chance = random.Random()

    def has_flowed(acknowledged: int, received: int) -> bool:
        return len(clients.acknowledged) >= acknowledged and len(clients.received) > received

    for kill in range(KILLS):
        enough = len(clients.acknowledged) + chance.randint(1, 60)
        stack.wait_for(partial(has_flowed, enough, len(clients.received)), 60, "load")
        role = ("web", "deliver")[kill % 2]
        stack.kill(role)
        stack.start(role)
    clients.finish_sending()
    drain(stack, 90)
    clients.stop()

    figures = compare(stack, clients.acknowledged, clients.received)
    figures |= {"kills": KILLS, "connects": clients.connects}
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    books = demand_balance(stack)
    assert books["expected"] == books["states"]["delivered"] == len(clients.acknowledged)


def test_two_web_processes_claim_what_their_own_clients_may_get(make_stack: Callable[..., Stack]) -> None:
    """A recipient's messages reach its client, at whichever process it is, and nobody else; others' are held."""
    stack = make_stack(CONTROLPLANE_JWT_KEY=SECRET, CONTROLPLANE_JWT_ALGORITHMS="HS256")
    stack.start("web")
    gateway_door(stack, "gw-users", max_in_flight=64)
    url = second_web(stack)

    def token(recipient: str) -> str:
        claims = {"sub": recipient, "exp": time.time() + 600, "roles": ["operator"], "system": "gw-users"}
        return jwt.encode(claims | {"recipient": recipient}, SECRET, "HS256")

    with Client(stack, key=token("anna")) as anna, Client(stack, url=url, key=token("bert")) as bert:
        for client in (anna, bert):
            assert client.hear() == {"type": "ready", "system": "gw-users"}
        held = [send(stack, "gw-users", recipient="carla"), send(stack, "gw-users")]
        sent = {name: [send(stack, "gw-users", recipient=name) for _ in range(20)] for name in ("anna", "bert")}
        for name, client in (("anna", anna), ("bert", bert)):
            got = []
            for _ in range(20):
                delivery = client.hear(20)
                client.say(type="ack", delivery_id=delivery["delivery_id"])
                got.append(delivery["message"])
            assert {message["recipient"] for message in got} == {name}
            assert {message["message_id"] for message in got} == set(sent[name])
        for message_id in held:
            assert awaited(stack, message_id, state="pending", reason="no_client")["attempts"] == 0
        for client in (anna, bert):
            with pytest.raises(TimeoutError):
                client.hear(0.5)
        with Client(stack, url=url, key=token("carla")) as carla:
            carla.hear()
            assert carla.hear(20)["message"]["message_id"] == held[0]
        with Client(stack, url=url, key=stack.key("operator", system="gw-users")) as service:
            service.hear()
            assert service.hear(20)["message"]["message_id"] == held[1]


def test_a_cap_holds_over_two_web_processes_and_nothing_of_it_lies_idle(make_stack: Callable[..., Stack]) -> None:
    """Doors with a cap of one go on at whichever process their clients are; one with clients at both keeps its cap."""
    stack = make_stack()
    stack.start("web")
    single = [f"gw-one-{number}" for number in range(5)]
    for slug in single:
        gateway_door(stack, slug, max_in_flight=1)
    gateway_door(stack, "gw-shared", max_in_flight=3, timeout_s=60)
    url = second_web(stack)
    shared_key = stack.key("operator", system="gw-shared")
    with ExitStack() as exits:

        def client(slug: str, **options: str) -> Client:
            key = shared_key if slug == "gw-shared" else stack.key("operator", system=slug)
            made = exits.enter_context(Client(stack, key=key, **options))
            assert made.hear() == {"type": "ready", "system": slug}
            return made

        both = [client("gw-shared"), client("gw-shared", url=url)]
        for slug in single:
            taker = client(slug)
            for number in range(3):
                message_id = send(stack, slug, payload={"n": number})
                delivery = taker.hear(30)
                taker.say(type="ack", delivery_id=delivery["delivery_id"])
                assert delivery["message"]["message_id"] == message_id
        owed = [send(stack, "gw-shared") for _ in range(9)]
        told = [(taker, frame) for taker in both for frame in heard(taker, 3)]
        assert len(told) == 3  # nobody acknowledged any
        done = []
        while told:
            taker, frame = told.pop(0)
            taker.say(type="ack", delivery_id=frame["delivery_id"])
            done.append(frame["message"]["message_id"])
            if not told and len(done) < len(owed):
                told = [(each, frame) for each in both for frame in heard(each, 3)]
                assert len(told) <= 3
    assert sorted(done) == sorted(owed)


def heard(client: Client, within_s: float) -> list[dict[str, Any]]:
    """Return the frames that come until there was none for so long."""
    found = []
    with suppress(TimeoutError):
        while True:
            found.append(client.hear(within_s))
    return found


def test_a_killed_web_process_leaves_its_deliveries_to_the_other(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(CONTROLPLANE_LEASE_S=str(LEASE_S))
    stack.start("web")
    gateway_door(stack, "gw-two")
    url = second_web(stack)
    key = stack.key("operator", system="gw-two")
    with Client(stack, url=url, key=key) as doomed:
        doomed.hear()
        message_id = send(stack, "gw-two")
        first = doomed.hear()
        with Client(stack, key=key) as other:
            other.hear()
            stack.kill("web2")
            again = other.hear(30)
            other.say(type="ack", delivery_id=again["delivery_id"])
            found = awaited(stack, message_id, state="delivered")

    assert (again["delivery_id"], again["attempt"], found["attempts"]) == (first["delivery_id"], 2, 1)


def test_a_clean_stop_spends_nothing_and_the_next_process_goes_on(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.start("web")
    gateway_door(stack, "gw-stop")
    key = stack.key("operator", system="gw-stop")
    with Client(stack, key=key) as client:
        client.hear()
        message_id = send(stack, "gw-stop")
        client.hear()
        started = time.monotonic()
        assert stack.terminate("web") == 0
        took_s = time.monotonic() - started
        assert client.until_closed()[0] == 1012
    stack.start("web")
    stopped = delivery_of(stack, message_id)
    with Client(stack, key=key) as client:
        client.hear()
        client.say(type="ack", delivery_id=client.hear(20)["delivery_id"])
        found = awaited(stack, message_id, state="delivered")

    assert (stopped["state"], stopped["attempts"], found["attempts"]) == ("pending", 0, 1)
    assert took_s < 12


def test_what_was_read_before_a_clean_stop_is_acknowledged(make_stack: Callable[..., Stack]) -> None:
    """SIGTERM while the database stands still: once it goes on, each message is acknowledged before the line ends."""
    stack = make_stack()
    stack.start("web")
    stack.register("gw-stop")
    with Client(stack, key=stack.key("operator", system="gw-stop")) as client:
        assert client.hear()["type"] == "ready"
        client.say(type="send", ref="first", message={"payload": 1})
        assert client.hear()["type"] == "ack"
        with nothing_is_stored(stack):
            for number in range(300):
                client.say(type="send", ref=str(number), message={"payload": 1})
            client.say(
                type="status", ref="read", delivery_id="none"
            )  # no such frame: answered once the others were read
            assert client.hear()["ref"] == "read"
            stack.signal("web", signal.SIGTERM)
            with suppress(TimeoutError):  # it has begun to stop, and does not while this is owed
                client.hear(1)
        code, heard = client.until_closed()

    assert stack.processes.pop("web").wait(20) == 0
    assert (code, [frame["type"] for frame in heard]) == (1012, ["ack"] * 300)
    assert {frame["ref"] for frame in heard} == {str(number) for number in range(300)}
    assert stack.sql("SELECT count(*) FROM messaging_message") == [(301,)]


def test_an_interface_of_both_kinds_uses_what_is_there(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Without a client all of it goes over HTTP; with the HTTP endpoint paused all of it goes to the client."""
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    gateway_door(stack, "gw-other")
    made = stack.register("gw-mixed", http_receiver.url, name="http")
    body = {"system": "gw-mixed", "protocol": "gateway", "name": "clients"}
    assert stack.api("POST", "endpoints/", json=body).status_code == 201
    for _ in range(5):
        awaited(stack, send(stack, "gw-mixed"), state="delivered")
    assert len(http_receiver.received) == 5
    stack.api("POST", f"endpoints/{made['endpoint']['id']}/pause/", json={"reason": "test"})
    message_id = send(stack, "gw-mixed")
    with Client(stack, key=stack.key("operator", system="gw-mixed")) as client:
        client.hear()
        delivery = client.hear(20)
        client.say(type="ack", delivery_id=delivery["delivery_id"])
        awaited(stack, message_id, state="delivered")
    assert delivery["message"]["message_id"] == message_id
    last = send(stack, "gw-mixed")
    awaited(stack, last, state="pending")
    stack.api("POST", f"endpoints/{made['endpoint']['id']}/resume/")
    awaited(stack, last, state="delivered")
    assert len(http_receiver.received) == 6


def test_a_pause_holds_what_clients_would_get_and_its_end_lets_it_go(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.start("web")
    stack.start("deliver")
    gateway_door(stack, "gw-pause")
    with Client(stack, key=stack.key("operator", system="gw-pause")) as client:
        client.hear()
        stack.api("POST", "systems/gw-pause/pause/", json={"reason": "test"})
        message_id = send(stack, "gw-pause")
        awaited(stack, message_id, state="pending", reason="paused")
        with pytest.raises(TimeoutError):
            client.hear(1)
        stack.api("POST", "systems/gw-pause/resume/")
        client.say(type="ack", delivery_id=client.hear(20)["delivery_id"])
        awaited(stack, message_id, state="delivered")


def test_a_client_on_node_js_sends_and_takes(make_stack: Callable[..., Stack]) -> None:
    need("ws")
    stack = make_stack()
    stack.start("web")
    gateway_door(stack, "gw-node", max_in_flight=64)
    url = stack.url.replace("http", "ws") + "/ws/v1/gateway/"
    command = script("gateway.js", url, stack.key("operator", system="gw-node"), "200")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    found = orjson.loads(done.stdout)

    assert found["ready"] == {"type": "ready", "system": "gw-node"}
    assert found["acks"] == [f"r{number}" for number in range(200)]
    assert sorted(item["number"] for item in found["got"]) == list(range(200))
    assert {item["text"] for item in found["got"]} == {"ü \U0001f600"}
    assert (found["nacks"], found["unknown"]) == ([], [])
    drain(stack)
