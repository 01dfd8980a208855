"""What a suite can say of TCP, TLS and UDP peers, and of whether an endpoint is there at all."""

from pathlib import Path

import pytest

from tests.endpoints.conftest import Caller
from tests.peers.foreign import Node
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port
from tests.servers.sockets import HANG_UP, NOTHING, TcpReceiver, UdpReceiver
from tests.testing.lines import TOKEN, Run, of_line, place, suite

__all__ = ["authority"]


def tcp(params: str, *assertions: str, more: str = "") -> str:
    return of_line("tcp", params, *assertions, more=more)


def udp(params: str, *assertions: str, more: str = "") -> str:
    return of_line("udp", params, *assertions, more=more)


@pytest.mark.parametrize("framing", ["line", "length"])
def test_frames_go_both_ways_over_one_connection(run: Run, admin: Caller, tmp_path: Path, framing: str) -> None:
    """A foreign peer (Node.js) sends each body back, in the endpoint's framing."""
    with Node("tcp.js", free_port(), tmp_path / "ledger", framing) as peer:
        place(admin, "tcp", peer.port, config={"framing": framing})
        done = run(
            suite(
                tcp(
                    "session: a, send: [{json: {n: 1}}, {text: two}]", "messages: {eq: [{n: 1}, two]}", "size: {eq: 3B}"
                ),
                tcp("session: a, send: {hex: 00ff}", "bytes: {eq: 00ff}"),
            )
        )

    assert (done.code, peer.received()) == (0, [b'{"n":1}', b"two", b"\x00\xff"]), done.out


def test_a_token_is_shown_first_and_its_refusal_is_told(run: Run, admin: Caller) -> None:
    with TcpReceiver(framing="length", auth=TOKEN) as peer:
        peer.answer(lambda body: body)
        place(admin, "tcp", peer.port, token=TOKEN, config={"framing": "length"})
        assert run(suite(tcp("send: {text: hi}", "text: {eq: hi}"))).code == 0
        done = run(suite(tcp("auth: none, send: {text: hi}, within: 1s", "text: {eq: hi}")))
        assert (done.code, TOKEN in done.raw) == (1, False)

    with TcpReceiver(framing="length", auth="another") as peer:
        place(admin, "tcp", peer.port, token=TOKEN, slug="other", config={"framing": "length"})
        step = tcp("send: {text: hi}", "error.class: {eq: auth}")
        assert run(suite(step), "--system", "hub=other").code == 0


def test_what_a_peer_says_before_it_hangs_up_is_heard(run: Run, admin: Caller) -> None:
    """Raw bytes end with the connection; a half-closed line is still listened to."""
    with TcpReceiver(framing="raw") as peer:
        peer.answer(lambda body: body.upper())
        place(admin, "tcp", peer.port, config={"framing": "raw", "reply": "message"})
        step = tcp("send: [{text: ab}, {text: cd}, {end: true}], until: close", "text: {eq: ABCD}")
        done = run(suite(step))
        assert done.code == 0, done.out

        peer.answer(HANG_UP)
        done = run(suite(tcp("send: [{text: ab}, {end: true}], expect: 1", "latency: {lt: 9s}")))
        assert (done.code, done.cases["one"]["error_class"]) == (1, "connect")


def test_a_body_that_cannot_be_framed_is_our_own_fault(run: Run, admin: Caller) -> None:
    with TcpReceiver(framing="line") as peer:
        place(admin, "tcp", peer.port, config={"framing": "line"})
        done = run(suite(tcp('send: {text: "a\\nb"}', "text: {eq: a}")))

    assert (done.code, "holds the delimiter" in done.cases["one"]["reason"]) == (2, True)


def test_silence_over_tcp_is_no_answer(run: Run, admin: Caller) -> None:
    with TcpReceiver(framing="line") as peer:
        peer.answer(NOTHING)
        place(admin, "tcp", peer.port, config={"framing": "line"})
        done = run(suite(tcp("send: {text: hi}, within: 100ms", "latency: {lt: 9s}")))
        assert (done.code, done.cases["one"]["error_class"]) == (1, "timeout")
        assert run(suite(tcp("send: {text: hi}, expect: 0, listen: 100ms", "messages: {empty: true}"))).code == 0


def test_tls_is_verified_as_a_delivery_verifies_it(
    run: Run, admin: Caller, authority: CertificateAuthority, tmp_path: Path
) -> None:
    with TcpReceiver(framing="line", tls=authority.server_context(tmp_path, "localhost")) as peer:
        peer.answer(lambda body: body)
        trusted = {"framing": "line", "tls": {"ca": authority.pem}}
        place(admin, "tls", peer.port, host="localhost", config=trusted)
        done = run(suite(tcp("send: {text: hi}", "text: {eq: hi}")))
        assert done.code == 0, done.out

        place(admin, "tls", peer.port, slug="doubted", host="localhost", config={"framing": "line"})
        done = run(suite(tcp("send: {text: hi}", "error.class: {eq: tls}")), "--system", "hub=doubted")
        assert done.code == 0, done.out


def test_datagrams_come_back_to_where_they_were_sent_from(run: Run, admin: Caller, tmp_path: Path) -> None:
    with Node("udp.js", free_port(), tmp_path / "ledger") as peer:
        place(admin, "udp", peer.port)
        done = run(
            suite(
                udp("session: a, send: [{json: {n: 1}}, {text: two}], expect: 2", "messages: {eq: [{n: 1}, two]}"),
                udp("session: a, send: {hex: 00ff}, expect: 1", "bytes: {eq: 00ff}"),
            )
        )

    assert done.code == 0, done.out


def test_a_datagram_that_nobody_answers_proves_nothing(run: Run, admin: Caller) -> None:
    """An answer is expected, or the step says that it verifies nothing; where nobody listens the host says so."""
    with UdpReceiver() as peer:
        peer.answer(NOTHING)
        place(admin, "udp", peer.port)
        done = run(suite(udp("send: {text: hi}, expect: 1, within: 100ms", "latency: {lt: 9s}")))
        assert (done.code, done.cases["one"]["error_class"]) == (1, "timeout")
        assert run(suite(udp("send: {text: hi}, unverified: true"))).code == 0

    done = run(suite(udp("send: {text: hi}, unverified: true", "latency: {lt: 9s}")))
    assert (done.code, done.cases["one"]["error_class"]) == (1, "connect")


def test_a_probe_asks_as_the_health_check_does(run: Run, admin: Caller, http_receiver: HttpReceiver) -> None:
    """Whatever the protocol: an answer with its status, or the class of why there is none."""
    with UdpReceiver() as peer, TcpReceiver(framing="line") as other:
        place(admin, "udp", peer.port)
        place(admin, "tcp", other.port, slug="device")
        place(admin, "http", http_receiver.port, slug="api")
        probe = suite("{probe: hub, assert: [{latency: {lt: 9s}}]}")
        assert [run(probe, "--system", f"hub={slug}").code for slug in ("hub", "device")] == [0, 0]
    asked = suite("{probe: {system: hub, auth: none}, assert: [{status: {eq: 204}}]}")
    http_receiver.answer(204, 500)
    assert [run(asked, "--system", "hub=api").code for _ in range(2)] == [0, 1]
    gone = suite("{probe: hub, assert: [{error.class: {eq: connect}}]}")
    assert run(gone, "--system", "hub=device").code == 0
