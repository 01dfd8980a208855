"""The corpus goes to Node.js and comes back, over every protocol; and comes in from Node.js, by every way."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.inbox import PullLink
from tests.listening.conftest import Ways
from tests.peers.corpus import EVERYTHING, MESSAGES
from tests.peers.foreign import ENVIRONMENT, Node, need, node, script
from tests.servers.ports import free_port
from tests.stack import Stack

Endpoint = dict[str, Any]
UDP_LARGEST = 65_507


@contextmanager
def framed(name: str, stack: Stack, directory: Path) -> Iterator[Endpoint]:
    """Run a peer that keeps a ledger, over TCP or UDP."""
    with Node(f"{name}.js", free_port(), directory / "ledger", "length") as peer:
        framing = {"framing": "length"} if name == "tcp" else {}
        yield {"host": "127.0.0.1", "port": peer.port, "config": {"reply": "message", **framing}}


@contextmanager
def http(_: str, stack: Stack, directory: Path) -> Iterator[Endpoint]:
    with node("http.js", "node:http") as port:
        yield {"host": "127.0.0.1", "port": port}


@contextmanager
def ws(_: str, stack: Stack, directory: Path) -> Iterator[Endpoint]:
    with node("ws.js", "ws") as port:
        yield {"host": "127.0.0.1", "port": port, "config": {"reply": "message"}}


@contextmanager
def caller(_: str, stack: Stack, directory: Path) -> Iterator[Endpoint]:
    """Nothing to run yet: it connects to us as soon as its system is registered."""
    need("ws")
    yield {}


Peer = Callable[[str, Stack, Path], AbstractContextManager[Endpoint]]
OUT: dict[str, Peer] = {"http": http, "tcp": framed, "udp": framed, "ws": ws, "gateway": caller, "pull": caller}


@contextmanager
def connected(protocol: str, stack: Stack, system: str) -> Iterator[None]:
    """Run the client of those protocols where the peer calls us."""
    if OUT[protocol] is not caller:
        yield
        return
    words = script("echo.js", protocol, stack.url, system, stack.key("operator", system=system))
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield
        finally:
            process.kill()


def ask(link: PullLink, system: str, kind: str, body: bytes) -> requests.Response:
    """Send a request to `system` whose answer goes to the link's own inbox."""
    fields = {"source_system": link.source, "target_system": system, "reply_to": link.target, "message_type": "request"}
    packed = b'"payload":' + body if kind == "json" else b'"payload_base64":"' + base64.b64encode(body) + b'"'
    data = json.dumps(fields)[:-1].encode() + b"," + packed + b"}"
    return link.stack.api("POST", "messages/", data=data, headers={"Content-Type": "application/json"})


def answered(link: PullLink) -> tuple[str, bytes]:
    """Fetch one response; return what it answers and its payload, of JSON the very text."""
    text = link.inbox.ask(max=1, wait=30).text
    [fetched] = json.loads(text)["results"]
    link.inbox.ack(fetched)
    message = fetched["message"]
    if message["payload_base64"] is not None:
        return message["correlation_id"], base64.b64decode(message["payload_base64"])
    return message["correlation_id"], text.partition('"payload":')[2].rpartition(',"payload_base64":null')[0].encode()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", OUT)
def test_a_corpus_goes_to_node_and_comes_back_byte_by_byte(shared_stack: Stack, protocol: str, tmp_path: Path) -> None:
    """Asked over REST, carried over the protocol, answered by Node.js with what it got, and fetched by who asked."""
    link = PullLink(shared_stack)
    system = f"{link.target}-node"
    shared_stack.register(system)
    with OUT[protocol](protocol, shared_stack, tmp_path) as endpoint:
        made = {"system": system, "protocol": protocol, "timeout_s": 20, "max_in_flight": 2, **endpoint}
        assert shared_stack.api("POST", "endpoints/", json=made).status_code == 201
        with connected(protocol, shared_stack, system):
            sent = {}
            for kind, body in MESSAGES:
                answer = ask(link, system, kind, body)
                if protocol == "udp" and len(body) > UDP_LARGEST:
                    assert (answer.status_code, answer.json()["code"]) == (422, "unfit")
                else:
                    assert answer.status_code == 202, answer.text
                    sent[answer.json()["message_id"]] = body
            came_back = dict(answered(link) for _ in sent)

    wrong = [body[:60] for message_id, body in sent.items() if came_back.get(message_id) != body]
    assert wrong == []


IN = ("http", "tcp", "gateway")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", IN)
def test_a_corpus_comes_in_from_node_byte_by_byte(ways: Ways, way: str, tmp_path: Path) -> None:
    """What Node.js wrote is what is stored, and each is acknowledged once."""
    need("ws")
    source, target = f"corpus-{way}", f"corpus-{way}-target"
    ways.register(source)
    ways.register(target)
    assert ways.api("POST", "endpoints/", json={"system": target, "protocol": "pull"}).status_code == 201
    port = ways.listener(source, kind="tcp", framing="length")["port"] if way == "tcp" else ways.port
    file = tmp_path / "corpus"
    lines = [f"{kind} {body.hex() if kind == 'bytes' else body.decode()}" for kind, body in MESSAGES]
    file.write_text("".join(line + "\n" for line in lines))
    words = script("sender.js", way, str(port), ways.key("operator", system=source), target, str(file))
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(json.loads(done.stdout)) == sorted(f"corpus-{way}-{n}" for n in range(len(lines)))
    assert ways.payloads(source) == EVERYTHING
