"""HTTP endpoints: what a receiver gets, and what each of its answers means."""

import asyncio
import base64
import gzip
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import jwt
import orjson
import psutil
import pytest

from endpoints.transports import make_transport
from endpoints.transports.base import Address, Advice, ErrorClass, Reply, Secret, Transport, TransportError
from endpoints.transports.http_answers import retry_after_s
from tests.contract.peers import address, outgoing
from tests.servers import answers
from tests.servers.answers import Answer
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority, http_receiver  # noqa: F401
from tests.servers.http import HttpReceiver

Open = Callable[..., Awaitable[Transport]]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def receiver(http_receiver: HttpReceiver) -> HttpReceiver:  # noqa: F811
    return http_receiver


@pytest.fixture
async def endpoint(receiver: HttpReceiver) -> AsyncIterator[Open]:
    """Return a maker of opened transports to the receiver; all are closed at the end."""
    made: list[Transport] = []

    async def make(**fields: Any) -> Transport:
        fields = {"port": receiver.port, "path": "/hook"} | fields
        transport = make_transport(fields.pop("whole", None) or address(**fields))
        await transport.open()
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.aclose()


def secret(kind: str, name: str = "shop-key", **data: Any) -> Secret:
    return Secret("c1", name, kind, data)


async def refused(sending: Awaitable[Reply]) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await sending
    return caught.value


# -- what a receiver gets ---------------------------------------------------------------


async def test_a_receiver_gets_the_payload_and_who_sent_it(endpoint: Open, receiver: HttpReceiver) -> None:
    reply = await (await endpoint()).send(outgoing(attempt=3))

    got = receiver.received[0]
    assert (got.method, got.path, got.body) == ("POST", "/hook", b'{"order": 4711}')
    expected = {
        "content-type": "application/json",
        "webhook-id": "0193d-delivery",
        "x-message-id": "0193m-message",
        "x-correlation-id": "c-1",
        "x-source-system": "billing",
        "x-message-type": "event",
        "x-event-type": "invoice.paid",
        "x-priority": "normal",
        "x-attempt": "3",
    }
    assert {name: got.headers.get(name) for name in expected} == expected
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    assert "webhook-signature" not in got.headers
    assert reply.request["url"] == f"http://127.0.0.1:{receiver.port}/hook"
    assert reply.request["headers"]["x-attempt"] == "3"
    assert "body" not in reply.request
    assert set(reply.phases_ms) == {"connect", "first_byte", "body"}


async def test_the_trace_follows_from_the_message_and_goes_on_with_the_senders(
    endpoint: Open, receiver: HttpReceiver
) -> None:
    transport = await endpoint()
    await transport.send(outgoing(attempt=1))
    await transport.send(outgoing(attempt=2))
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await transport.send(outgoing(headers={"Traceparent": given}))

    first, second, third = (got.headers["traceparent"].split("-") for got in receiver.received)
    assert first[1] == second[1]
    assert first[2] != second[2]
    assert third[1] == given.split("-")[1]


async def test_signatures_verify_with_every_secret_of_a_rotation(endpoint: Open, receiver: HttpReceiver) -> None:
    """Standard Webhooks: a receiver that knows either secret finds its signature."""
    key = b"k" * 24
    new, old = (
        secret("hmac", "new", secret="whsec_" + base64.b64encode(key).decode()),
        secret("hmac", "old", secret="plain"),
    )
    await (await endpoint(signing=(new, old))).send(outgoing())

    got = receiver.received[0]
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    assert got.headers["webhook-signature"].split() == [
        "v1," + base64.b64encode(hmac.digest(each, signed, "sha256")).decode() for each in (key, b"plain")
    ]


async def test_the_senders_headers_are_passed_on_but_those_that_are_not_its_own(
    endpoint: Open, receiver: HttpReceiver
) -> None:
    given = {
        "X-Tenant": "acme",
        "Authorization": "Bearer stolen",
        "Cookie": "a=b",
        "Connection": "close",
        "Webhook-Id": "forged",
        "Host": "elsewhere",
        "Content-Length": "1",
        "X-Fixed": "from the sender",
    }
    await (await endpoint(config={"headers": {"x-fixed": "from the endpoint"}})).send(outgoing(headers=given))

    headers = receiver.received[0].headers
    assert (headers["x-tenant"], headers["x-fixed"]) == ("acme", "from the endpoint")
    assert headers["webhook-id"] == "0193d-delivery"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert not {"authorization", "cookie", "connection"} & headers.keys()


async def test_placeholders_are_filled_in_path_query_and_headers(endpoint: Open, receiver: HttpReceiver) -> None:
    transport = await endpoint(
        path="/orders/${{ message.correlation_id }}/events?v=2&x=a b",
        config={
            "method": "PUT",
            "query": {"key": "${{message.ordering_key}}", "plain": 1},
            "headers": {"X-Tenant": "t-${{ message.source_system }}"},
        },
    )
    await transport.send(outgoing(correlation_id="a/b?c#d%2e&é", ordering_key="x&y=z"))

    got = receiver.received[0]
    assert got.method == "PUT"
    assert got.path == "/orders/a%2Fb%3Fc%23d%252e%26%C3%A9/events?v=2&x=a%20b&key=x%26y%3Dz&plain=1"
    assert got.headers["x-tenant"] == "t-billing"


@pytest.mark.parametrize(
    ("config", "path", "fields"),
    [
        ({"headers": {"x-a": "${{ message.correlation_id }}"}}, "/", {"correlation_id": "a\r\nx-evil: 1"}),
        ({}, "/", {"correlation_id": "a\nb"}),
        ({}, "/", {"event_type": "a\x00b"}),
        ({}, "/", {"content_type": "text/plain\r\nx: y"}),
        ({}, "/", {"headers": {"X-A": "b\r\nc"}}),
        ({}, "/", {"headers": {"X A": "b"}}),
        ({}, "/a/${{ message.correlation_id }}/b", {"correlation_id": ".."}),
        ({}, "/a/${{ message.correlation_id }}", {"correlation_id": "."}),
        ({"body": "form"}, "/", {"payload": b"[1]"}),
        ({"body": "form"}, "/", {"payload": b'{"a": {"b": 1}}'}),
        ({"body": "template", "template": "${{ message.payload }}"}, "/", {"payload": b"\xff"}),
    ],
)
async def test_a_message_that_cannot_be_made_into_a_request_is_dead_and_not_sent(
    endpoint: Open, receiver: HttpReceiver, config: dict[str, Any], path: str, fields: dict[str, Any]
) -> None:
    error = await refused((await endpoint(config=config, path=path)).send(outgoing(**fields)))

    assert (error.error_class, error.advice) == (ErrorClass.TRANSFORM, Advice.DEAD)
    assert receiver.received == []


@pytest.mark.parametrize(
    ("config", "fields", "content_type", "body"),
    [
        ({}, {"payload": b"\x00\xff", "content_type": "image/png"}, "image/png", b"\x00\xff"),
        (
            {"body": "form"},
            {"payload": b'{"a": [1, "x y"], "b": true, "c": null}'},
            "application/x-www-form-urlencoded",
            b"a=1&a=x+y&b=true&c=",
        ),
        (
            {"body": "template", "template": '{"id":"${{ message.correlation_id }}","data":${{message.payload}}}'},
            {"correlation_id": 'a"b'},
            "application/json",
            b'{"id":"a\\"b","data":{"order": 4711}}',
        ),
        (
            {"body": "template", "template": "<id>${{ message.correlation_id }}</id>"},
            {"content_type": "text/xml"},
            "text/xml",
            b"<id>c-1</id>",
        ),
    ],
)
async def test_a_body_is_made_as_configured(
    endpoint: Open,
    receiver: HttpReceiver,
    config: dict[str, Any],
    fields: dict[str, Any],
    content_type: str,
    body: bytes,
) -> None:
    reply = await (await endpoint(config=config)).send(outgoing(**fields))

    got = receiver.received[0]
    assert (got.headers["content-type"], got.body) == (content_type, body)
    assert reply.request.get("body") == (None if not config else body.decode())


async def test_an_envelope_and_a_cloudevent_hold_the_payload_unchanged(endpoint: Open, receiver: HttpReceiver) -> None:
    payload = b'{"n": 1.10, "big": 9007199254740993}'
    await (await endpoint(config={"body": "envelope"})).send(outgoing(payload=payload))
    await (await endpoint(config={"body": "cloudevents"})).send(outgoing(payload=payload))
    await (await endpoint(config={"body": "cloudevents"})).send(outgoing(payload=b"\xff", content_type="image/png"))

    envelope, event, binary = receiver.received
    assert payload in envelope.body
    assert orjson.loads(envelope.body)["message_id"] == "0193m-message"
    assert event.headers["content-type"] == "application/cloudevents+json"
    assert payload in event.body
    assert {"specversion": "1.0", "id": "0193m-message", "type": "invoice.paid"}.items() <= orjson.loads(
        event.body
    ).items()
    assert orjson.loads(binary.body)["data_base64"] == "/w=="


# -- credentials ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credential", "header", "value", "recorded"),
    [
        (secret("bearer", token="t0ken-xyz"), "authorization", "Bearer t0ken-xyz", "Bearer $SHOP_KEY"),
        (
            secret("basic", username="anna", password="pässword"),
            "authorization",
            "Basic " + base64.b64encode("anna:pässword".encode()).decode(),
            "Basic $SHOP_KEY",
        ),
        (secret("api_key", header="X-Token", value="k-123456"), "x-token", "k-123456", "$SHOP_KEY"),
    ],
)
async def test_a_credential_is_sent_and_recorded_by_its_name(
    endpoint: Open, receiver: HttpReceiver, credential: Secret, header: str, value: str, recorded: str
) -> None:
    reply = await (await endpoint(credential=credential)).send(outgoing())

    assert receiver.received[0].headers[header] == value
    assert reply.request["headers"][header] == recorded


async def test_an_hmac_credential_signs_the_body(endpoint: Open, receiver: HttpReceiver) -> None:
    await (await endpoint(credential=secret("hmac", secret="k-123456"))).send(outgoing())

    got = receiver.received[0]
    assert got.headers["x-signature-256"] == "sha256=" + hmac.digest(b"k-123456", got.body, "sha256").hex()


async def test_a_jwt_credential_signs_a_short_lived_token(endpoint: Open, receiver: HttpReceiver) -> None:
    key = "k" * 32
    credential = secret("jwt", key=key, algorithm="HS256", claims={"iss": "us", "sub": "billing"})
    reply = await (await endpoint(credential=credential)).send(outgoing())

    token = receiver.received[0].headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, key, ["HS256"], audience=f"http://127.0.0.1:{receiver.port}")
    assert (claims["iss"], claims["sub"]) == ("us", "billing")
    assert claims["exp"] - claims["iat"] == 300
    assert reply.request["headers"]["authorization"] == "Bearer $SHOP_KEY"


async def test_a_credential_that_cannot_be_used_is_told_by_each_send(endpoint: Open) -> None:
    for credential in (secret("bearer"), secret("unheard_of"), secret("jwt", key="not a pem", algorithm="RS256")):
        error = await refused((await endpoint(credential=credential)).send(outgoing()))
        assert (error.error_class, error.advice) == (ErrorClass.AUTH, Advice.RETRY)


# -- TLS --------------------------------------------------------------------------------


@pytest.fixture
def trusting(authority: CertificateAuthority) -> dict[str, Any]:  # noqa: F811
    return {"tls": {"ca": authority.pem}}


async def test_a_client_certificate_is_shown(
    endpoint: Open,
    authority: CertificateAuthority,  # noqa: F811
    trusting: dict[str, Any],
    tmp_path: Path,
) -> None:
    pair = authority.issue("billing.example")
    with HttpReceiver(tls=authority.server_context(tmp_path, "127.0.0.1", ask_client=True)) as server:
        whole = address(protocol="https", port=server.port, config=trusting)
        shown = await endpoint(whole=replace(whole, client_credential=secret("mtls", cert=pair.cert, key=pair.key)))
        await shown.send(outgoing())
        assert "billing.example" in repr(server.received[0].peer_certificate)

        error = await refused((await endpoint(whole=whole)).send(outgoing()))
        assert error.error_class in (ErrorClass.TLS, ErrorClass.CONNECT)


@pytest.mark.parametrize(
    ("names", "expired", "config"),
    [
        (("other.example",), False, {}),
        (("127.0.0.1",), True, {}),
        (("127.0.0.1",), False, {"ca": ""}),
        (("127.0.0.1",), False, {"server_name": "other.example"}),
    ],
)
async def test_a_certificate_that_does_not_fit_is_a_tls_error(
    endpoint: Open,
    authority: CertificateAuthority,  # noqa: F811
    tmp_path: Path,
    names: tuple[str, ...],
    expired: bool,
    config: dict[str, Any],
) -> None:
    with HttpReceiver(tls=authority.server_context(tmp_path, *names, expired=expired)) as server:
        tls = {"ca": authority.pem} | config
        transport = await endpoint(whole=address(protocol="https", port=server.port, config={"tls": tls}))
        error = await refused(transport.send(outgoing()))

    assert (error.error_class, error.advice) == (ErrorClass.TLS, Advice.RETRY)
    assert server.received == []


@pytest.mark.parametrize("config", [{"verify": False}, {"server_name": "other.example"}])
async def test_tls_settings_accept_what_they_say(
    endpoint: Open,
    authority: CertificateAuthority,  # noqa: F811
    tmp_path: Path,
    config: dict[str, Any],
) -> None:
    with HttpReceiver(tls=authority.server_context(tmp_path, "other.example")) as server:
        tls = config if "verify" in config else {"ca": authority.pem} | config
        transport = await endpoint(whole=address(protocol="https", port=server.port, config={"tls": tls}))
        await transport.send(outgoing())


async def test_plain_http_on_a_tls_port_and_the_reverse_are_errors_in_time(
    endpoint: Open,
    receiver: HttpReceiver,
    authority: CertificateAuthority,  # noqa: F811
    tmp_path: Path,
) -> None:
    error = await refused((await endpoint(protocol="https", timeout_s=3)).send(outgoing()))
    assert error.error_class in (ErrorClass.TLS, ErrorClass.CONNECT, ErrorClass.TIMEOUT)
    with HttpReceiver(tls=authority.server_context(tmp_path, "127.0.0.1")) as server:
        error = await refused((await endpoint(port=server.port, timeout_s=3)).send(outgoing()))
    assert error.error_class in (ErrorClass.CONNECT, ErrorClass.PROTOCOL)


# -- what answers mean ------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
async def test_a_2xx_is_delivered(endpoint: Open, receiver: HttpReceiver, status: int) -> None:
    receiver.answer(status)

    assert (await (await endpoint()).send(outgoing())).status_code == status


@pytest.mark.parametrize(
    ("status", "error_class", "advice"),
    [
        (300, ErrorClass.PROTOCOL, Advice.DEAD),
        (301, ErrorClass.PROTOCOL, Advice.DEAD),
        (304, ErrorClass.PROTOCOL, Advice.DEAD),
        (307, ErrorClass.PROTOCOL, Advice.DEAD),
        (400, ErrorClass.CLIENT_ERROR, Advice.DEAD),
        (401, ErrorClass.AUTH, Advice.RETRY),
        (403, ErrorClass.AUTH, Advice.RETRY),
        (404, ErrorClass.CLIENT_ERROR, Advice.DEAD),
        (408, ErrorClass.TIMEOUT, Advice.RETRY),
        (409, ErrorClass.CLIENT_ERROR, Advice.DEAD),
        (410, ErrorClass.CLIENT_ERROR, Advice.GONE),
        (422, ErrorClass.CLIENT_ERROR, Advice.DEAD),
        (425, ErrorClass.CLIENT_ERROR, Advice.RETRY),
        (429, ErrorClass.THROTTLED, Advice.THROTTLED),
        (500, ErrorClass.SERVER_ERROR, Advice.RETRY),
        (503, ErrorClass.SERVER_ERROR, Advice.RETRY),
        (599, ErrorClass.SERVER_ERROR, Advice.RETRY),
    ],
)
async def test_every_other_status_means_what_the_table_says(
    endpoint: Open, receiver: HttpReceiver, status: int, error_class: ErrorClass, advice: Advice
) -> None:
    receiver.answer(Answer(status, b"" if status == 304 else b"because"))
    error = await refused((await endpoint()).send(outgoing()))

    assert (error.error_class, error.advice) == (error_class, advice)
    assert error.reply is not None
    assert (error.reply.status_code, error.reply.body) == (status, b"" if status == 304 else b"because")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("0", 0),
        ("3601", 3600),
        ("9" * 400, 3600),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), 3600),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_within_an_hour_or_not_at_all(text: str, expected: float | None) -> None:
    assert retry_after_s({"RETRY-AFTER": text}, NOW) == expected


@pytest.mark.parametrize(("status", "expected"), [(429, 9.0), (503, 9.0), (500, None)])
async def test_retry_after_counts_for_429_and_503(
    endpoint: Open, receiver: HttpReceiver, status: int, expected: float | None
) -> None:
    receiver.answer(Answer(status, headers={"Retry-After": "9"}))

    assert (await refused((await endpoint()).send(outgoing()))).retry_after_s == expected


@pytest.mark.parametrize(
    "answer",
    [answers.HUGE, answers.ENDLESS, answers.GZIP_BOMB, answers.DRIP, answers.CUT_BODY, answers.BAD_GZIP],
    ids=["huge", "endless", "gzip_bomb", "drip", "cut_body", "bad_gzip"],
)
async def test_a_2xx_with_a_hostile_body_is_delivered_in_time_and_cut(
    endpoint: Open, receiver: HttpReceiver, answer: Answer
) -> None:
    """The head decides; what follows can neither hold us up nor fill our memory."""
    receiver.answer(answer, 204)
    transport = await endpoint(timeout_s=1)
    before, started = psutil.Process().memory_info().rss, time.monotonic()
    reply = await transport.send(outgoing())

    assert (reply.status_code, reply.truncated) == (200, True)
    assert len(reply.body) <= 16384
    assert time.monotonic() - started < 10
    assert psutil.Process().memory_info().rss - before < 32 * 2**20
    assert (await transport.send(outgoing())).status_code == 204
    assert receiver.received[1].connection == 2


@pytest.mark.parametrize(
    ("answer", "error_classes"),
    [
        (answers.HANG, {ErrorClass.TIMEOUT}),
        (answers.DRIP_HEAD, {ErrorClass.TIMEOUT}),
        (answers.NOT_HTTP, {ErrorClass.PROTOCOL}),
        (answers.MANY_HEADERS, {ErrorClass.PROTOCOL, ErrorClass.CONNECT}),
        (answers.BAD_CHUNKING, {ErrorClass.PROTOCOL}),
        (answers.RESET, {ErrorClass.CONNECT}),
        (answers.HANG_UP, {ErrorClass.CONNECT}),
    ],
    ids=["hang", "drip_head", "not_http", "many_headers", "bad_chunking", "reset", "hang_up"],
)
async def test_an_answer_without_a_readable_head_is_tried_again(
    endpoint: Open, receiver: HttpReceiver, answer: Answer, error_classes: set[ErrorClass]
) -> None:
    receiver.answer(answer, 204)
    transport = await endpoint(timeout_s=1)
    started = time.monotonic()
    error = await refused(transport.send(outgoing()))

    assert error.error_class in error_classes
    assert error.advice is Advice.RETRY
    assert time.monotonic() - started < 10
    assert error.request["headers"]["x-message-id"] == "0193m-message"
    assert (await transport.send(outgoing())).status_code == 204


async def test_a_gzipped_answer_is_read_unpacked(endpoint: Open, receiver: HttpReceiver) -> None:
    receiver.answer(Answer(200, gzip.compress(b"hello"), {"Content-Encoding": "gzip"}))

    assert (await (await endpoint()).send(outgoing())).body == b"hello"


async def test_connections_are_kept_and_never_more_than_allowed(endpoint: Open, receiver: HttpReceiver) -> None:
    transport = await endpoint(max_in_flight=4)
    for _ in range(5):
        await asyncio.gather(*(transport.send(outgoing()) for _ in range(20)))

    assert receiver.connections <= 4


async def test_a_large_payload_arrives_whole(endpoint: Open, receiver: HttpReceiver) -> None:
    payload = bytes(range(256)) * 4096 * 3
    await (await endpoint()).send(outgoing(payload=payload, content_type="application/octet-stream"))

    assert receiver.received[0].body == payload


@pytest.mark.parametrize(("status", "is_there"), [(200, True), (404, True), (401, True), (500, False)])
async def test_a_probe_takes_any_answer_below_500(
    endpoint: Open, receiver: HttpReceiver, status: int, is_there: bool
) -> None:
    receiver.answer(status)
    transport = await endpoint()
    if is_there:
        assert (await transport.probe()).status_code == status
    else:
        assert (await refused(transport.probe())).error_class is ErrorClass.SERVER_ERROR
    assert receiver.received[0].method == "GET"


async def test_no_part_of_an_answer_tells_a_secret_back(endpoint: Open, receiver: HttpReceiver) -> None:
    """Neither the reason phrase, nor a header or body that is cut in the middle of it."""
    token = "canary-secret-0123456789"
    body = b"y" * (16 * 1024 - 10) + token.encode() + b"z" * 5000

    async def write(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 401 {token}\r\nX-Big: {'x' * 1010}{token}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    receiver.answer(Answer(fault=write))
    transport = await endpoint(credential=secret("bearer", token=token))

    error = await refused(transport.send(outgoing()))

    assert error.reply is not None
    told = f"{error} {error.detail} {error.reply.headers} {error.reply.body.decode()}"
    assert "canary" not in told
    assert error.reply.truncated


def test_an_address_does_not_show_its_secrets() -> None:
    shown = repr(Address("1", "erp", "main", "http", credential=secret("bearer", token="t0ken-xyz")))

    assert "t0ken-xyz" not in shown
