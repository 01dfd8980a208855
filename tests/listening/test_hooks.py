"""Hooks against the real web process: what the usual senders send, signed as they sign it."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.listening.conftest import Ways

SECRET = "s3cret-of-the-hook"
BODY = json.dumps({"type": "order.paid", "id": "evt-1", "data": {"order": 4711, "customer": "anna"}}).encode()


def _hex(secret: str, data: bytes) -> str:
    return hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()


def _standard(body: bytes, secret: str, now: int) -> dict[str, str]:
    mac = hmac.new(secret.encode(), b"msg-1.%d." % now + body, hashlib.sha256).digest()
    signed = f"v1,{base64.b64encode(b'x' * 32).decode()} v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": "msg-1", "webhook-timestamp": str(now), "webhook-signature": signed}


SIGNED: dict[str, Callable[[bytes, str, int], dict[str, str]]] = {
    "standard_webhooks": _standard,
    "github": lambda body, secret, now: {"x-hub-signature-256": f"sha256={_hex(secret, body)}"},
    "stripe": lambda body, secret, now: {
        "stripe-signature": f"t={now},v1={'0' * 64},v1={_hex(secret, b'%d.' % now + body)}"
    },
    "slack": lambda body, secret, now: {
        "x-slack-request-timestamp": str(now),
        "x-slack-signature": f"v0={_hex(secret, b'v0:%d:' % now + body)}",
    },
    "hmac": lambda body, secret, now: {"x-signature-256": f"sha256={_hex(secret, body)}"},
    "token": lambda body, secret, now: {"x-gitlab-token": secret},
}
TIMED = ("standard_webhooks", "stripe", "slack")


def post(ways: Ways, slug: str, body: bytes = BODY, **headers: str) -> requests.Response:
    told = {"content-type": "application/json", **headers}
    return ways.session.post(f"{ways.url}/in/{slug}/", data=body, headers=told, timeout=20)


def hook(ways: Ways, slug: str, signature: str, *, secret_text: str = SECRET, **fields: Any) -> None:
    """Register a hook and the system that it speaks as, with one secret."""
    ways.register(slug)
    secret = {"name": f"{slug}-secret", "kind": "hmac", "data": {"secret": secret_text}}
    assert ways.api("POST", "credentials/", json=secret).status_code == 201
    credential = f"{slug}-secret" if signature != "none" else None
    ways.listener(slug, kind="hook", system=slug, signature=signature, credential=credential, **fields)


@pytest.mark.parametrize("scheme", SIGNED)
def test_a_signed_hook_is_stored_and_a_forged_one_is_not(ways: Ways, scheme: str) -> None:
    """202 with the bytes as they came; 401 for another secret, a changed body, no signature, an old one."""
    slug = f"hook-{scheme.replace('_', '-')}"
    hook(ways, slug, scheme)
    sign, now = SIGNED[scheme], int(time.time())
    good = post(ways, slug, **sign(BODY, SECRET, now))
    bad = [post(ways, slug, **sign(BODY, "other", now)), post(ways, slug)]
    if scheme != "token":
        bad.append(post(ways, slug, BODY + b" ", **sign(BODY, SECRET, now)))
    if scheme in TIMED:
        bad.append(post(ways, slug, **sign(BODY, SECRET, now - 400)))

    assert (good.status_code, good.json()["status"]) == (202, "accepted")
    assert [answer.status_code for answer in bad] == [401] * len(bad)
    assert {answer.headers["content-type"] for answer in bad} == {"application/problem+json"}
    assert ways.payloads(slug) == [BODY]


@pytest.mark.parametrize("scheme", TIMED)
def test_a_call_that_comes_again_is_stored_once(ways: Ways, scheme: str) -> None:
    """A copy that somebody else sends, or a sender that saw no answer: what is signed the same is a duplicate."""
    slug = f"twice-{scheme.replace('_', '-')}"
    hook(ways, slug, scheme)
    sign, now = SIGNED[scheme], int(time.time())
    told = [post(ways, slug, **sign(BODY, SECRET, now)).json() for _ in range(3)]

    assert [answer["status"] for answer in told] == ["accepted", "duplicate", "duplicate"]
    assert len({answer["message_id"] for answer in told}) == 1
    assert ways.payloads(slug) == [BODY]


def test_a_secret_that_cannot_be_read_lets_nobody_in(ways: Ways) -> None:
    """`whsec_` of something that is no base64 is no key: signing with an empty one must not do."""
    hook(ways, "hook-unreadable", "standard_webhooks", secret_text="whsec_not base64!")

    answer = post(ways, "hook-unreadable", **_standard(BODY, "", int(time.time())))

    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")


def test_fields_are_read_from_where_the_listener_says(ways: Ways) -> None:
    """Headers and JSON paths become the envelope; an id makes the second call a duplicate."""
    fields = {
        "event_type": "payload.$.type",
        "message_id": "header.x-event-id",
        "ordering_key": "payload.$.data.customer",
        "search_keys.order": "payload.$.data.order",
        "correlation_id": "payload.$.nothing.there",
    }
    hook(ways, "mapped", "none", fields=fields, message_type="notification")
    told = [post(ways, "mapped", **{"x-event-id": "evt-1"}).json()["status"] for _ in range(2)]
    message = ways.api("GET", "messages/?source_system=mapped").json()["results"][0]

    assert told == ["accepted", "duplicate"]
    assert message["event_type"] == "order.paid"
    assert message["message_type"] == "notification"
    assert (message["message_id"], message["ordering_key"], message["correlation_id"]) in (
        ("evt-1", "anna", None),
        ("evt-1", "anna", ""),
    )
    assert message["search_keys"] == {"order": "4711"}


def test_a_long_body_is_looked_through_as_far_as_it_pays(ways: Ways) -> None:
    """Thirty paths that lead nowhere cost no minute; what stands in front, or on a straight way, is found."""
    fields = {f"search_keys.k{n}": f"payload.$..none{n}" for n in range(18)}
    fields |= {"search_keys.first": "payload.$..a", "search_keys.last": "payload.$[49999].a"}
    hook(ways, "long-ones", "none", fields={**fields, "correlation_id": "header.x-name"})
    body = json.dumps([{"a": n + 1} for n in range(50_000)]).encode()
    answer = post(ways, "long-ones", body, **{"x-name": "Köln".encode()})  # type: ignore[arg-type]
    message = ways.api("GET", "messages/?source_system=long-ones").json()["results"][0]

    assert (answer.status_code, answer.elapsed.total_seconds() < 5) == (202, True)
    assert message["search_keys"] == {"first": "1", "last": "50000"}
    assert message["correlation_id"] == "Köln"


def test_any_body_is_kept_byte_for_byte(ways: Ways) -> None:
    """Forms, XML, nothing at all: what is no JSON is not looked into."""
    hook(ways, "anything", "none")
    bodies = [b"payload=%7B%7D", b"<a>\xff</a>", b"", bytes(range(256))]
    kinds = ["application/x-www-form-urlencoded", "text/xml", "text/plain", "application/octet-stream"]
    answers = [post(ways, "anything", body, **{"content-type": kind}) for body, kind in zip(bodies, kinds, strict=True)]

    assert [answer.status_code for answer in answers] == [202] * 4
    assert ways.payloads("anything") == bodies


def test_unknown_closed_and_wrongly_called_hooks_are_problems(ways: Ways) -> None:
    """404 for what is not there or closed, 405 for another method, 400 for JSON that is none, 413 for too much."""
    hook(ways, "closing", "none")
    statuses = {
        "unknown": ways.session.post(f"{ways.url}/in/nobody/", data=b"x").status_code,
        "traversal": ways.session.post(f"{ways.url}/in/closing/..%2fx/", data=b"x").status_code,
        "get": ways.session.get(f"{ways.url}/in/closing/").status_code,
        "bad JSON": post(ways, "closing", b"{").status_code,
        "large": post(ways, "closing", b"x" * 1_200_000, **{"content-type": "text/plain"}).status_code,
        "gzipped": post(ways, "closing", **{"content-encoding": "gzip"}).status_code,
        "bad type": post(ways, "closing", **{"content-type": "nonsense"}).status_code,
    }
    ways.api("POST", "listeners/closing/disable/", json={})
    ways.wait_for(lambda: post(ways, "closing").status_code == 404, 3, "it being closed")

    assert statuses == {
        "unknown": 404,
        "traversal": 404,
        "get": 405,
        "bad JSON": 400,
        "large": 413,
        "gzipped": 415,
        "bad type": 415,
    }


def test_slacks_question_whether_we_are_there_is_answered(ways: Ways) -> None:
    """Signed like everything of Slack's, answered with its challenge, and no message."""
    hook(ways, "slack-asks", "slack")
    body = json.dumps({"type": "url_verification", "challenge": "c-1"}).encode()
    answer = post(ways, "slack-asks", body, **SIGNED["slack"](body, SECRET, int(time.time())))

    assert (answer.status_code, answer.text) == (200, "c-1")
    assert ways.payloads("slack-asks") == []


def test_without_a_credential_the_systems_signing_keys_count(ways: Ways) -> None:
    """Both living keys are taken, so that a change of them drops nothing; what is refused is shown."""
    ways.register("keyed")
    ways.listener("keyed", kind="hook", system="keyed", signature="hmac")
    keys = [ways.signing_key("keyed") for _ in range(2)]
    time_to_see = [post(ways, "keyed", **SIGNED["hmac"](BODY, key["secret"], 0)).status_code for key in keys]
    assert post(ways, "keyed", **SIGNED["hmac"](BODY, "other", 0)).status_code == 401

    assert time_to_see == [202, 202]
    ways.wait_for(lambda: ways.seen("keyed")["refusals"], 10, "the refusal")
    assert ways.seen("keyed")["refusals"][0]["code"] == "bad_signature"


@pytest.mark.parametrize("scheme", ["github", "stripe", "hmac", "standard_webhooks"])
def test_a_datagrams_signature_is_no_hooks(ways: Ways, scheme: str) -> None:
    """The system signs both with one key; who reads a datagram on its way cannot post it, whatever the scheme."""
    slug = f"both-{scheme.replace('_', '-')}"
    ways.register(slug)
    ways.listener(slug, kind="hook", system=slug, signature=scheme, content_type="text/plain")
    key = ways.signing_key(slug)
    now = int(time.time())
    nonce = str(now) if scheme == "standard_webhooks" else "n-1"
    text = json.dumps({"message_id": "m-1", "payload": {"n": 1.5}}).encode()
    signed = f"{now}.{nonce}.".encode() + text
    mac = hmac.new(key["secret"].encode(), signed, hashlib.sha256).digest()
    forged: dict[str, tuple[bytes, dict[str, str]]] = {
        "github": (signed, {"x-hub-signature-256": f"sha256={mac.hex()}"}),
        "hmac": (signed, {"x-signature-256": f"sha256={mac.hex()}"}),
        "stripe": (signed.partition(b".")[2], {"stripe-signature": f"t={now},v1={mac.hex()}"}),
        "standard_webhooks": (
            text,
            {
                "webhook-id": str(now),
                "webhook-timestamp": nonce,
                "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
            },
        ),
    }
    body, headers = forged[scheme]
    refused = post(ways, slug, body, **{"content-type": "text/plain", **headers})
    usual = post(ways, slug, **SIGNED[scheme](BODY, key["secret"], now))

    assert (refused.status_code, refused.json()["code"]) == (401, "bad_signature")
    assert usual.status_code == 202


def test_metas_question_whether_we_are_there_is_answered_to_who_knows_the_token(ways: Ways) -> None:
    """The token follows from the secret and is not the secret: it stands in a URL."""
    hook(ways, "meta-asks", "github")
    token = hmac.new(SECRET.encode(), b"hub.verify_token", hashlib.sha512).hexdigest()[:32]
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": token}

    def ask(**changes: str) -> requests.Response:
        query = asked | {f"hub.{name}": value for name, value in changes.items()}
        return ways.session.get(f"{ways.url}/in/meta-asks/", params=query, timeout=20)

    answer = ask()
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    for wrong in ("", SECRET, "x" * 32, "\u00e9"):
        assert ask(verify_token=wrong).status_code == 401
    assert ask(mode="denied").status_code == ask(challenge="a\nb").status_code == 400
    assert ways.session.get(f"{ways.url}/in/meta-asks/", timeout=20).status_code == 405


def test_oktas_question_whether_we_are_there_is_answered_with_its_token(ways: Ways) -> None:
    hook(ways, "okta-asks", "token")
    headers = {"x-okta-verification-challenge": "c-1", "authorization": SECRET}

    def ask(**changes: str) -> requests.Response:
        return ways.session.get(f"{ways.url}/in/okta-asks/", headers=headers | changes, timeout=20)

    assert (ask().status_code, ask().json()) == (200, {"verification": "c-1"})
    assert ask(authorization="other").status_code == 401
