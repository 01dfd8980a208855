"""Senders without our envelope: devices, analysers, whatever frames its bytes in a way of its own."""

import hashlib
import socket
import ssl
from typing import Any

import pytest

from tests.listening.certificates import Authority
from tests.listening.clients import Line
from tests.listening.conftest import Ways

HL7 = (
    b"MSH|^~\\&|ANALYSER|LAB|HIS|WARD|20260102030405||ORU^R01^ORU_R01|CTRL-1|P|2.5.1\r"
    b"PID|1||4711^^^HOSPITAL^MR||M\xfcller^Anna\r"
    b"OBX|1|NM|2345-7^Glucose^LN||182|mg/dL|70_105|H|||F\r"
)


def device(ways: Ways, slug: str, **fields: Any) -> dict[str, Any]:
    """Register a system `slug` and a listener of its name for it, known by its address."""
    ways.register(slug)
    return ways.listener(
        slug, **{"kind": "tcp", "envelope": "none", "system": slug, "addresses": ["127.0.0.0/8"], **fields}
    )


def test_an_hl7_message_is_stored_as_it_is_and_acknowledged(ways: Ways) -> None:
    """The ACK names the control id, sender and receiver changed places; sent again it is the same message."""
    made = device(ways, "analyser", framing="mllp", ack="mllp")
    client = Line(made["port"])
    for _ in range(2):
        client.raw(b"\x0b" + HL7 + b"\x1c\x0d")
        while not client.rest.endswith(b"\x1c\x0d"):
            client._more()
        answer, client.rest = client.rest, b""
        segments = answer[1:-2].split(b"\r")
        header = segments[0].split(b"|")
        assert header[2:6] == [b"HIS", b"WARD", b"ANALYSER", b"LAB"]
        assert header[8] == b"ACK^R01"
        assert segments[1].split(b"|")[:3] == [b"MSA", b"AA", b"CTRL-1"]

    assert ways.payloads("analyser") == [HL7]
    assert ways.sql(
        "SELECT content_type FROM messaging_message m JOIN endpoints_system s ON s.id = m.source_id WHERE s.slug = ?",
        "analyser",
    ) == [("application/hl7-v2",)]


FRAMED = {
    "line": ({}, b"one\ntwo\n", [b"one", b"two"]),
    "length": ({}, b"\0\0\0\x03one\0\0\0\x02\0\xff", [b"one", b"\0\xff"]),
    "fixed": ({"size": 4}, b"abcd\0\xff\n\r", [b"abcd", b"\0\xff\n\r"]),
    "delimiter": ({"delimiter": "hex:0d0a"}, b"one\r\ntwo\r\n", [b"one", b"two"]),
}


@pytest.mark.parametrize("framing", FRAMED)
def test_bytes_are_kept_and_acknowledged_as_configured(ways: Ways, framing: str) -> None:
    """Whatever the framing, the payload is the frame's body, and the ack comes after it was stored."""
    config, sent, stored = FRAMED[framing]
    slug = f"device-{framing}"
    client = Line(device(ways, slug, framing=framing, ack="text", ack_text="hex:06", **config)["port"])
    for byte in sent:  # a byte at a time: the pieces that bytes come in say nothing
        client.raw(bytes([byte]))
    while len(client.rest) < 2:
        client._more()

    assert client.rest == b"\x06\x06"
    assert ways.payloads(slug) == stored


def test_line_ends_of_a_delimiter_and_of_an_ack_are_kept(ways: Ways) -> None:
    """What a device ends its frames and expects its acks with is every character of it, the last ones, too."""
    made = device(ways, "ends", framing="delimiter", delimiter="|\n", ack="text", ack_text="OK\r\n")
    client = Line(made["port"])
    client.raw(b"o|ne|\ntwo|\n")
    while len(client.rest) < 8:
        client._more()

    assert client.rest == b"OK\r\nOK\r\n"
    assert ways.payloads("ends") == [b"o|ne", b"two"]


def test_a_refused_message_closes_a_connection_that_has_no_words_for_it(ways: Ways) -> None:
    """No ack, and an end: the device sends again, or its operator looks."""
    made = device(ways, "picky", ack="text", ack_text="OK", content_type="application/json")
    client = Line(made["port"])
    client.raw(b'{"a":1}\n{"a":\n')

    assert client.read_all() in (b"OK", b"")
    ways.wait_for(lambda: "malformed" in {one["code"] for one in ways.seen("picky")["refusals"]}, 10, "the refusal")


def test_nothing_behind_a_refused_message_is_acknowledged(ways: Ways) -> None:
    """Acks that name nothing are counted: as many as there are, so many messages from the first on are stored."""
    made = device(ways, "counting", ack="text", ack_text="OK", content_type="application/json")
    client = Line(made["port"])
    client.raw(b'{"a":1}\n{"a":\n{"a":2}\n')

    assert client.read_all() == b"OK"
    assert ways.payloads("counting")[:1] == [b'{"a":1}']


def test_strangers_are_not_let_in(ways: Ways) -> None:
    """An address that is in no listener's list is closed at once, and shown."""
    made = device(ways, "strict", addresses=["127.0.0.9/32"])
    assert Line(made["port"]).read_all() == b""
    ways.wait_for(lambda: ways.seen("strict")["refusals"], 10, "the refusal")

    assert ways.seen("strict")["refusals"][0]["code"] == "unknown_sender"


def test_two_devices_share_a_port_each_known_by_its_address(ways: Ways) -> None:
    """Rows of one address and port, each for networks of its own."""
    first = device(ways, "pump-a", addresses=["127.0.0.1/32"])
    second = device(ways, "pump-b", addresses=["127.0.0.2/32"], port=first["port"])
    ways.wait_for(lambda: ways.seen("pump-b")["state"] == "open", 10, "both open")
    for address, slug in (("127.0.0.1", "pump-a"), ("127.0.0.2", "pump-b")):
        with socket.create_connection(("127.0.0.1", second["port"]), 10, source_address=(address, 0)) as client:
            client.sendall(slug.encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""
        ways.wait_for(lambda slug=slug: ways.payloads(slug) == [slug.encode()], 10, "its message")


def test_http_and_tls_on_the_plain_port_are_told_off(ways: Ways) -> None:
    """They are not taken for a device's bytes."""
    made = device(ways, "plain")
    for data, told in ((b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"), (bytes.fromhex("1603010005"), b"\x15\x03\x03")):
        client = Line(made["port"])
        client.raw(data)
        assert client.read_all().startswith(told)
    assert ways.payloads("plain") == []


def test_a_client_certificate_says_who_sends(ways: Ways) -> None:
    """By its fingerprint, over TLS; no certificate, another authority's or another name is not let in."""
    ours, theirs = Authority(), Authority()
    served, pump = ours.certificate("localhost"), ours.certificate("pump-7")
    secret = {"cert": served.cert, "key": served.key}
    assert (
        ways.api("POST", "credentials/", json={"name": "edge-cert", "kind": "mtls", "data": secret}).status_code == 201
    )
    made = device(
        ways,
        "pump-7",
        tls=True,
        credential="edge-cert",
        client_ca=ours.pem,
        addresses=[],
        certificates=[f"sha256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pump.cert)).hexdigest()}"],
        ack="text",
        ack_text="OK",
    )
    known = Line(made["port"], tls=ours.client_context(pump))
    known.raw(b"reading\n")
    while known.rest != b"OK":
        known._more()
    for context in (
        ours.client_context(None),
        ours.client_context(theirs.certificate("pump-7")),
        ours.client_context(ours.certificate("pump-8")),
    ):
        try:
            stranger = Line(made["port"], tls=context)
            stranger.raw(b"forged\n")
            assert stranger.read_all() == b""
        except (ssl.SSLError, ConnectionError):
            continue

    assert ways.payloads("pump-7") == [b"reading"]
