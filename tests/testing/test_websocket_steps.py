"""What a suite can say of a WebSocket peer, and what it cannot be fooled by."""

import json
from collections.abc import Iterator

import pytest

from testing.document.reader import read_suite
from testing.errors import BadDocument
from tests.endpoints.conftest import Caller
from tests.peers.foreign import node
from tests.servers.ports import free_port
from tests.servers.ws import CUT, Close, Got, Many, WsReceiver
from tests.testing.lines import FIRST_COLUMN, FIRST_LINE, TOKEN, Run, of_line, place, suite


def ws(params: str, *assertions: str, more: str = "") -> str:
    return of_line("websocket", params, *assertions, more=more)


def echo(got: Got) -> str | bytes:
    return got.data


def numbered(got: Got) -> str:
    return json.dumps({"connection": got.connection, "said": json.loads(got.data)})


@pytest.fixture
def hub() -> Iterator[WsReceiver]:
    with WsReceiver(token=TOKEN) as receiver:
        receiver.answer(echo)
        yield receiver


@pytest.fixture
def at_hub(admin: Caller, hub: WsReceiver) -> WsReceiver:
    """Return the peer, registered as `hub` with the token that it wants."""
    place(admin, "ws", hub.port, token=TOKEN, path="/base", config={"headers": {"X-Fixed": "yes"}})
    return hub


def test_several_messages_go_over_one_connection_in_order(run: Run, at_hub: WsReceiver) -> None:
    """Each reply is a message: the value of JSON, the text of text, the hex of bytes."""
    done = run(
        suite(
            ws(
                "send: [{json: {n: 1}}, {text: hello}, {hex: 00ff}, {base64: AP8=}]",
                "status: {eq: 101}",
                "messages.0.n: {eq: 1}",
                "messages: {eq: [{n: 1}, hello, 00ff, 00ff]}",
                "bytes: {eq: 00ff}",
                "latency.connect: {gt: 0ms}",
            )
        )
    )

    assert done.code == 0, done.out
    assert (at_hub.connections, [got.body for got in at_hub.received[1:3]]) == (1, [b"hello", b"\x00\xff"])
    assert [isinstance(got.data, str) for got in at_hub.received] == [True, True, False, False]
    assert at_hub.wait_until_open(0)
    assert TOKEN not in done.raw
    attempt = done.cases["one"]["steps"][0]["attempts"][0]
    assert attempt["response"]["messages"] == [{"n": 1}, "hello", "00ff", "00ff"]
    assert attempt["request"]["headers"]["authorization"] == "Bearer $HUB_TOKEN"


def test_the_handshake_takes_path_query_headers_and_subprotocols(run: Run, admin: Caller) -> None:
    with WsReceiver(subprotocols=["orders.v2"]) as hub:
        place(admin, "ws", hub.port, path="/base", config={"headers": {"X-Fixed": "yes"}})
        opening = 'path: rooms/1, query: {q: "a b"}, headers: {X-User: ann, x-fixed: no}, subprotocols: [orders.v2]'
        done = run(
            suite(
                ws(f"{opening}, send: {{text: hi}}", "headers.sec-websocket-protocol: {eq: orders.v2}"),
                ws("path: /other, subprotocols: [orders.v2], send: {text: hi}", "status: {eq: 101}"),
                ws("headers: {sec-websocket-key: x}", "status: {eq: 101}"),
            )
        )

    assert len(hub.received) == 2, done.out
    first, second = hub.received
    assert (first.path, first.headers["x-user"], first.headers["x-fixed"]) == ("/base/rooms/1?q=a%20b", "ann", "no")
    assert (second.path, second.headers["x-fixed"]) == ("/other", "yes")
    assert (done.code, "sec-websocket-key belongs to the handshake" in done.cases["one"]["reason"]) == (2, True)


def test_a_refused_handshake_is_an_answer_to_what_asks_for_it(run: Run, at_hub: WsReceiver) -> None:
    """`status` may be asserted of it; what says nothing of the refusal does not pass over it."""
    refused = "auth: none, send: {text: hi}"
    done = run(suite(ws(refused, "status: {eq: 401}", "error.class: {eq: auth}")))
    assert done.code == 0, done.out

    done = run(suite(ws(refused, "latency: {lt: 10s}")))
    assert (done.code, "no answer: auth" in done.cases["one"]["reason"]) == (1, True)
    assert at_hub.received == []


def test_a_close_has_its_code(run: Run, at_hub: WsReceiver) -> None:
    """To be closed is what `until: close` waits for, and the end of everything else."""
    at_hub.answer(Close(4403, "not you"))
    closed = ("close.code: {eq: 4403}", "close.reason: {eq: not you}")
    done = run(suite(ws("send: {text: hi}, until: close", *closed, "messages: {empty: true}")))
    assert done.code == 0, done.out

    done = run(suite(ws("send: {text: hi}", "status: {eq: 101}")))
    assert (done.code, done.cases["one"]["error_class"]) == (1, "auth")
    assert "0 of 1 messages" in done.cases["one"]["reason"]

    at_hub.answer(CUT)
    done = run(suite(ws("send: {text: hi}, until: close", "close.code: {eq: 1006}")))
    assert done.code == 0, done.out


def test_sessions_last_over_the_steps_of_a_case_and_no_longer(run: Run, at_hub: WsReceiver) -> None:
    """Several connections at once, each with its name; all are closed when the case ends."""
    at_hub.answer(numbered)
    done = run(
        suite(
            ws("session: ann, send: {json: 1}", "messages.0: {eq: {connection: 1, said: 1}}"),
            ws("session: bob, send: {json: 2}", "messages.0: {eq: {connection: 2, said: 2}}"),
            "{group: {at_once: true, steps: ["
            + ws("session: ann, send: {json: 3}", "messages.0.connection: {eq: 1}")
            + ", "
            + ws("session: bob, send: {json: 4}", "messages.0.connection: {eq: 2}")
            + "]}}",
            ws("session: ann, headers: {a: b}, send: {json: 5}", "messages.0.connection: {eq: 1}"),
        )
    )

    assert (done.code, "headers can be given with reconnect only" in done.cases["one"]["reason"]) == (2, True)
    assert (at_hub.connections, len(at_hub.received)) == (2, 4)
    assert at_hub.wait_until_open(0)


def test_what_comes_between_steps_is_kept_for_the_next(run: Run, at_hub: WsReceiver) -> None:
    at_hub.answer(Many(('{"n":1}', '{"n":2}', '{"n":3}')))
    done = run(
        suite(
            ws("session: ann, send: {text: go}", "messages: {eq: [{n: 1}]}"),
            ws("session: ann, expect: 2", "'messages.$[*].n': {eq: [2, 3]}"),
        )
    )

    assert done.code == 0, done.out


def test_a_session_that_ended_is_opened_again_only_when_asked(run: Run, at_hub: WsReceiver) -> None:
    """A lost connection must not mend itself unseen."""
    at_hub.answer(Close(1001, "bye"), echo)
    lost = ws("session: ann, send: {text: one}, until: close", "close.code: {eq: 1001}")
    done = run(suite(lost, ws("session: ann, send: {text: two}", "messages.0: {eq: two}")))
    assert (done.code, at_hub.connections) == (1, 1)

    at_hub.answer(Close(1001, "bye"), echo)
    assert run(suite(lost, ws("session: ann", "status: {eq: 101}"))).code == 1

    at_hub.answer(Close(1001, "bye"), echo)
    again = ws("session: ann, reconnect: true, send: {text: two}", "messages.0: {eq: two}")
    done = run(suite(lost, again, ws("session: ann, send: {text: three}", "messages.0: {eq: three}")))
    assert done.code == 0, done.out


def test_a_retry_of_the_case_begins_with_no_sessions(run: Run, at_hub: WsReceiver) -> None:
    at_hub.answer("wrong", "right")
    step = ws("session: ann, send: {text: go}", "messages.0: {eq: right}")
    done = run(suite(step, more="\n    retry: {max: 1, if: [assertion]}"))

    assert (done.code, done.report["flaky"], at_hub.connections) == (0, True, 2)


def test_silence_fails_whatever_else_is_asserted(run: Run, at_hub: WsReceiver) -> None:
    """No reply within the time is no answer; only an assertion about the error is content with it."""
    at_hub.answer(None)
    silent = "send: {text: hi}, within: 100ms"
    done = run(suite(ws(silent, "status: {eq: 101}", "latency: {lt: 9s}")))
    assert (done.code, done.cases["one"]["error_class"]) == (1, "timeout")
    assert "0 of 1 messages within 0.1 s" in done.cases["one"]["reason"]

    assert run(suite(ws(silent, "error.class: {eq: timeout}"))).code == 0
    assert run(suite(ws(silent))).code == 2  # asserting nothing needs an answer, too


def test_polling_says_it_again_until_it_holds(run: Run, at_hub: WsReceiver) -> None:
    at_hub.answer(None, "starting", "ready")
    step = ws("send: {text: how}, within: 100ms", "messages.0: {eq: ready}", more=", poll: {within: 9s, every: 10ms}")
    done = run(suite(step))

    assert (done.code, done.report["flaky"]) == (0, False)
    assert [each["verdict"] for each in done.cases["one"]["steps"][0]["attempts"]] == ["failed", "failed", "passed"]


def test_a_message_is_said_many_times_or_made_large(run: Run, at_hub: WsReceiver) -> None:
    at_hub.answer(lambda got: str(len(got.body)))
    step = ws("send: [{text: hello, times: 3}, {fill: 70KiB}]", "messages: {eq: [5, 5, 5, 71680]}")
    done = run(suite(step))

    assert (done.code, at_hub.connections) == (0, 1), done.out


def test_a_load_takes_turns_with_the_lines_of_a_session(run: Run, at_hub: WsReceiver) -> None:
    """Without a session each iteration connects; with one, each user keeps a line, and all are closed in the end."""
    load = "\n    load: {model: closed, stages: [{for: 500ms, at: 3}]}"
    done = run(suite(ws("session: a, send: {text: hi}", "text: {eq: hi}"), more=load))
    assert (done.code, 1 <= at_hub.connections <= 3 < len(at_hub.received)) == (0, True), done.out
    assert at_hub.wait_until_open(0)

    before = at_hub.connections, len(at_hub.received)
    done = run(suite(ws("send: {text: hi}", "text: {eq: hi}"), more=load))
    assert (done.code, at_hub.connections - before[0]) == (0, len(at_hub.received) - before[1]), done.out


def test_until_waits_for_one_message_and_ignore_passes_over_others(run: Run, at_hub: WsReceiver) -> None:
    said = [{"type": "presence"}, {"type": "ack", "id": 1}, {"type": "presence"}, {"type": "done", "id": 1}]
    at_hub.answer(Many(tuple(json.dumps(each) for each in said)))
    types = "'messages.$[*].type'"
    done = run(
        suite(
            ws("send: {text: go}, until: {type: done}", f"{types}: {{eq: [presence, ack, presence, done]}}"),
            ws("send: {text: go}, ignore: {type: presence}, expect: 2", f"{types}: {{eq: [ack, done]}}"),
            ws("send: {text: go}, until: {type: never}, within: 100ms", "error.class: {eq: timeout}"),
        )
    )

    assert done.code == 0, done.out


def test_listening_hears_what_should_not_come(run: Run, at_hub: WsReceiver) -> None:
    """That nothing more comes can be asserted, but not of a line that is dead."""
    at_hub.answer(Many(("mine", "not mine")))
    step = "send: {text: hi}, expect: 1, listen: 200ms"
    done = run(suite(ws(step, "messages: {eq: [mine]}")))
    assert (done.code, "messages" in done.cases["one"]["reason"]) == (1, True)

    at_hub.answer("mine")
    assert run(suite(ws(step, "messages: {eq: [mine]}"))).code == 0

    at_hub.answer(Many(("mine", Close(1001))))
    done = run(suite(ws(step, "messages: {eq: [mine]}")))
    assert (done.code, "the line ended" in done.cases["one"]["reason"]) == (1, True)


def test_pings_go_both_ways(run: Run, admin: Caller) -> None:
    """A peer's heartbeat is seen, ours is answered, and one whose pings are not answered gives us up."""
    with WsReceiver(ping_interval=0.05, ping_timeout=0.3) as hub:
        place(admin, "ws", hub.port)
        done = run(
            suite(
                ws(
                    "send: [{ping: true}], listen: 300ms", "events: {any: {json: {mode: subset, value: {event: pong}}}}"
                ),
                ws("expect: 0, listen: 300ms", "'events.$[?@.event == \"ping\"]': {len: {gte: 2}}"),
                ws("answer_pings: false, until: close, within: 9s", "close.code: {eq: 1011}"),
            )
        )

    assert done.code == 0, done.out


def test_our_own_close_is_answered(run: Run, at_hub: WsReceiver) -> None:
    step = ws("session: ann, send: {text: hi}, close: {code: 4000, reason: enough}", "close.code: {eq: 4000}")
    done = run(suite(step, ws("session: ann", "status: {eq: 101}")))

    assert (done.code, "the session had ended" in done.cases["one"]["reason"]) == (1, True)


def test_nobody_there_is_told_by_its_class(run: Run, admin: Caller) -> None:
    place(admin, "ws", free_port())
    assert run(suite(ws("send: {text: hi}", "error.class: {eq: connect}"))).code == 0
    assert run(suite(ws("send: {text: hi}", "latency: {lt: 9s}"))).code == 1


def test_a_peer_that_is_no_websocket_cannot_be_asked(run: Run, admin: Caller) -> None:
    place(admin, "http", free_port())
    done = run(suite(ws("send: {text: hi}", "status: {eq: 101}")))

    assert (done.code, "does not speak websocket" in done.cases["one"]["reason"]) == (2, True)


def test_production_is_only_listened_to_without_leave(run: Run, admin: Caller, hub: WsReceiver) -> None:
    place(admin, "ws", hub.port, token=TOKEN)
    assert admin("PATCH", "systems/hub/", {"environment": "production"}).status == 200
    assert run(suite(ws("send: {ping: true}", "status: {eq: 101}"))).code == 0
    assert run(suite(ws("send: {text: hi}", "status: {eq: 101}"))).code == 2
    assert run(suite(ws("send: {text: hi}", "status: {eq: 101}")), "--allow-production").code == 0


def test_a_foreign_peer_is_spoken_to(run: Run, admin: Caller) -> None:
    """Node.js's `ws`, with compression and a subprotocol."""
    with node("ws.js", "ws") as port:
        place(admin, "ws", port, config={"compression": True})
        done = run(
            suite(
                ws(
                    "subprotocols: [orders.v2, orders.v1], send: [{json: {text: ü}}, {ping: true}, {hex: 00ff}]",
                    "messages: {eq: [{text: ü}, 00ff]}",
                    "headers.sec-websocket-protocol: {eq: orders.v2}",
                )
            )
        )

    assert done.code == 0, done.out


BAD: dict[str, tuple[str, str, str]] = {
    "no such way to say it": (ws("send: {jsn: 1}"), "jsn", "unknown key 'jsn'; did you mean 'json'?"),
    "two ways at once": (ws("send: {json: 1, text: a}"), "{json", "needs exactly one of"),
    "odd digits": (ws("send: {hex: abc}"), "abc", "does not match"),
    "no base64": (ws("send: {base64: '?'}"), "'?'", "must be base64"),
    "a number as text": (ws("send: {text: 5}"), "5}", "must be a text"),
    "a bare duration": (ws("within: 5"), "5}", "must be a duration with its unit"),
    "too many": (ws("expect: 100000"), "100000", "must be a whole number of 0 to 10000"),
    "no such wait": (ws("until: closed"), "closed", "unknown value 'closed'; did you mean 'close'?"),
    "no such code": (ws("close: 99"), "99", "must be a whole number of 1000 to 4999"),
    "no such subject": (ws("expect: 0", "rows: {len: 1}"), "[{rows", "a websocket step has no 'rows'"),
    "no such alias": ("{websocket: {system: hup}, assert: none}", "hup", "unknown system 'hup'; did you mean 'hub'?"),
    "no such alias, in short": ("{probe: hup, assert: none}", "hup", "unknown system 'hup'; did you mean 'hub'?"),
    "no session name": (ws("session: 'a b'"), "'a b'", "does not match"),
    "tcp ends nothing else": (of_line("tcp", "send: {end: no}"), "no}", "can only be true"),
    "udp expects nothing": (of_line("udp", "send: {text: a}"), "{system", "needs exactly one of expect, unverified"),
    "udp expects and waives": (of_line("udp", "expect: 1, unverified: true"), "{system", "needs exactly one of"),
    "no such filter": ("{stream: {key: k, filter: {typ: a}}, assert: none}", "typ", "unknown key 'typ'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_step_is_refused_with_its_place(name: str) -> None:
    step, needle, words = BAD[name]
    with pytest.raises(BadDocument) as refused:
        read_suite(suite(step))

    place = (FIRST_LINE, FIRST_COLUMN + step.index(needle))
    assert [fault for fault in refused.value.faults if (fault.line, fault.column) == place and words in fault.detail], (
        refused.value.faults
    )
