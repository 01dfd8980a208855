"""Senders that this project did not write: Node.js, socat and openssl."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.listening.certificates import Authority
from tests.listening.conftest import Ways
from tests.peers.foreign import program, script


def run(*args: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(args, input=data, capture_output=True, timeout=60)


@pytest.mark.parametrize("framing", ["line", "length"])
def test_node_sends_over_tcp(ways: Ways, framing: str) -> None:
    """Node's `net`: a thousand messages in one go, each acknowledged once, text of every plane unharmed."""
    slug = f"node-{framing}"
    ways.register(slug)
    port = ways.listener(slug, kind="tcp", framing=framing)["port"]
    key = ways.key("operator", system=slug)
    done = run(*script("tcp_sender.js", str(port), framing, "1000", key))

    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == sorted(f"node-{n}" for n in range(1000))
    stored = ways.payloads(slug)
    assert len(stored) == 1000
    assert json.loads(stored[999]) == {"n": 999, "text": "\U0001f9ea žluťoučký \x01"}


def test_node_sends_signed_datagrams(ways: Ways) -> None:
    """Node's `dgram` and `crypto` agree with us on what is signed."""
    ways.register("node-udp")
    port, key = ways.listener("node-udp", kind="udp")["port"], ways.signing_key("node-udp")
    done = run(*script("udp_sender.js", str(port), "100", key["id"], key["secret"]))

    assert json.loads(done.stdout) == [f"node-{n}" for n in range(100)]
    assert len(ways.payloads("node-udp")) == 100


def test_socat_pipes_a_file(ways: Ways) -> None:
    """The one-liner of the docs: token and messages from a pipe, every answer printed before socat ends."""
    ways.register("socat")
    port = ways.listener("socat", kind="tcp")["port"]
    token = {"type": "auth", "token": ways.key("operator", system="socat")}
    lines = [token, *({"message_id": f"s-{n}", "payload": n} for n in range(50))]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    done = run(program("socat"), "-t", "10", "-", f"TCP:127.0.0.1:{port}", data=data)

    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["type"] for answer in answers] == ["ready", *["ack"] * 50]


def test_openssl_speaks_tls(ways: Ways, tmp_path: Path) -> None:
    """`openssl s_client` verifies our certificate; on a plain port it is told that this is no TLS."""
    ways.register("openssl")
    authority = Authority()
    served = authority.certificate("localhost")
    secret = {"name": "openssl-cert", "kind": "mtls", "data": {"cert": served.cert, "key": served.key}}
    assert ways.api("POST", "credentials/", json=secret).status_code == 201
    port = ways.listener("tls-lines", kind="tcp", tls=True, credential="openssl-cert")["port"]
    plain = ways.listener("plain-lines", kind="tcp")["port"]
    (tmp_path / "ca.pem").write_text(authority.pem)
    verify = ("-CAfile", str(tmp_path / "ca.pem"), "-verify_return_error", "-verify_hostname", "localhost", "-quiet")
    token = {"type": "auth", "token": ways.key("operator", system="openssl")}
    lines = [token, {"message_id": "o-1", "payload": "over TLS"}]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with subprocess.Popen(
        [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *verify],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(data)
        client.stdin.flush()
        answers = [json.loads(client.stdout.readline()) for _ in range(2)]
        client.stdin.close()
        client.kill()
    told = run(program("openssl"), "s_client", "-connect", f"127.0.0.1:{plain}")

    assert [answer["type"] for answer in answers] == ["ready", "ack"]
    assert told.returncode != 0
    assert b"alert protocol version" in told.stderr
