"""The corpus goes to Node.js and comes back, over every protocol; and comes in from Node.js, by every way."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.inbox import PullLink
from tests.listening.conftest import Ways
from tests.peers.corpus import CAP, MESSAGES
from tests.peers.foreign import ENVIRONMENT, Node, need, node, pem, script
from tests.servers.certificates import CertificateAuthority
from tests.servers.ports import free_port
from tests.stack import Stack

Endpoint = dict[str, Any]
UDP_LARGEST = 65_507


@dataclass
class Place:
    """Where a peer keeps what it needs, and whose certificate it shows if its protocol is one over TLS."""

    directory: Path
    authority: CertificateAuthority

    def tls(self, protocol: str) -> tuple[list[str], Endpoint]:
        """Return the peer's arguments for TLS and where it is found; both without if `protocol` has none."""
        if protocol not in OVER_TLS:
            return [], {"host": "127.0.0.1", "config": {}}
        return [pem(self.authority, self.directory, "localhost")], {
            "host": "localhost",
            "config": {"tls": {"ca": self.authority.pem}},
        }


@contextmanager
def framed(protocol: str, place: Place) -> Iterator[Endpoint]:
    """Run a peer that keeps a ledger, over TCP, TLS or UDP."""
    words, found = place.tls(protocol)
    name = "udp.js" if protocol == "udp" else "tcp.js"
    with Node(name, free_port(), place.directory / "ledger", "length", *words) as peer:
        framing = {} if protocol == "udp" else {"framing": "length"}
        yield {**found, "port": peer.port, "config": {"reply": "message", **framing, **found["config"]}}


@contextmanager
def http(protocol: str, place: Place) -> Iterator[Endpoint]:
    words, found = place.tls(protocol)
    with node("http.js", "node:http", *words) as port:
        yield {**found, "port": port}


@contextmanager
def ws(protocol: str, place: Place) -> Iterator[Endpoint]:
    words, found = place.tls(protocol)
    with node("ws.js", "ws", "echo", str(2 * CAP), *words) as port:
        yield {**found, "port": port, "config": {"reply": "message", **found["config"]}}


@contextmanager
def caller(_: str, place: Place) -> Iterator[Endpoint]:
    """Nothing to run yet: it connects to us as soon as its system is registered."""
    need("ws")
    yield {}


Peer = Callable[[str, Place], AbstractContextManager[Endpoint]]
OVER_TLS = ("https", "tls", "wss")
OUT: dict[str, Peer] = {
    **dict.fromkeys(("http", "https"), http),
    **dict.fromkeys(("tcp", "tls", "udp"), framed),
    **dict.fromkeys(("ws", "wss"), ws),
    **dict.fromkeys(("gateway", "pull"), caller),
}


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
def test_a_corpus_goes_to_node_and_comes_back_byte_by_byte(
    shared_stack: Stack, protocol: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    """Asked over REST, carried over the protocol, answered by Node.js with what it got, and fetched by who asked."""
    link = PullLink(shared_stack)
    system = f"{link.target}-node"
    shared_stack.register(system)
    with OUT[protocol](protocol, Place(tmp_path, authority)) as endpoint:
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


SECRET = "s3cret-of-the-hook"
DATAGRAM_LARGEST = 40_000  # of a body that is sent in base64, signed and within JSON; none in the corpus is near it


def http_way(ways: Ways, source: str, place: Place) -> list[str]:
    return [str(ways.port), ways.key("operator", system=source)]


def tcp_way(ways: Ways, source: str, place: Place) -> list[str]:
    port = ways.listener(source, kind="tcp", framing="length")["port"]
    return [str(port), ways.key("operator", system=source)]


def tls_way(ways: Ways, source: str, place: Place) -> list[str]:
    pair = place.authority.issue("localhost")
    (place.directory / "ca.pem").write_text(place.authority.pem)
    own = {"name": f"{source}-own", "kind": "mtls", "data": {"cert": pair.cert, "key": pair.key}}
    assert ways.api("POST", "credentials/", json=own).status_code == 201
    port = ways.listener(source, kind="tcp", framing="length", tls=True, credential=own["name"])["port"]
    return [str(port), ways.key("operator", system=source), str(place.directory / "ca.pem")]


def udp_way(ways: Ways, source: str, place: Place) -> list[str]:
    key = ways.signing_key(source)
    return [str(ways.listener(source, kind="udp")["port"]), key["id"], key["secret"]]


def hook_way(ways: Ways, source: str, place: Place) -> list[str]:
    secret = {"name": f"{source}-secret", "kind": "hmac", "data": {"secret": SECRET}}
    assert ways.api("POST", "credentials/", json=secret).status_code == 201
    signed = {"signature": "standard_webhooks", "credential": secret["name"]}
    ways.listener(source, kind="hook", system=source, fields={"message_id": "header.webhook-id"}, **signed)
    return [str(ways.port), SECRET, source]


# How to come in, and what the sender must be told: a port, a secret, and what else its protocol needs.
IN: dict[str, Callable[[Ways, str, Place], list[str]]] = {
    "http": http_way,
    "tcp": tcp_way,
    "tls": tls_way,
    "udp": udp_way,
    "gateway": http_way,
    "hook": hook_way,
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", IN)
def test_a_corpus_comes_in_from_node_byte_by_byte(
    ways: Ways, way: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    """What Node.js wrote is what is stored, and each is acknowledged once."""
    need("ws")
    source, target = f"corpus-{way}", f"corpus-{way}-target"
    ways.register(source)
    ways.register(target)
    assert ways.api("POST", "endpoints/", json={"system": target, "protocol": "pull"}).status_code == 201
    carried = [(kind, body) for kind, body in MESSAGES if way != "udp" or len(body) <= DATAGRAM_LARGEST]
    file = tmp_path / "corpus"
    lines = [f"{kind} {body.hex() if kind == 'bytes' else body.decode()}" for kind, body in carried]
    file.write_text("".join(line + "\n" for line in lines))
    words = script("sender.js", way, target, str(file), *IN[way](ways, source, Place(tmp_path, authority)))
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(json.loads(done.stdout)) == sorted(f"corpus-{way}-{n}" for n in range(len(lines)))
    assert ways.payloads(source) == [body for _, body in carried]
