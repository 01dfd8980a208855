"""The sentence of the dashboard, and how stored bytes are shown: pure functions, every case a row."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from endpoints.models import System
from endpoints.transports.base import Secret
from endpoints.transports.signing import signature, signing_key
from messaging.models import Process
from messaging.payloads import shown
from messaging.services.answer import answer
from messaging.services.connecting import receiving
from messaging.services.overview import Backlog, Minute, Oldest, Overview

NOW = datetime(2026, 1, 2, 2, 52, tzinfo=UTC)
SINCE = NOW - timedelta(minutes=41)


def backlog(state: str, reason: str, count: int, late: int = 0) -> Backlog:
    return Backlog(state, "erp", "orders", reason, "server_error", count, late, SINCE, SINCE)


def oldest(state: str, reason: str, error: str = "500 Internal Server Error") -> Oldest:
    return Oldest("d", 7, "erp/orders", state, reason, error, SINCE)


def test_all_delivered_says_how_many() -> None:
    seen = Overview(now=NOW, traffic=[Minute(NOW, accepted=1204, delivered=1204)], systems=2)

    assert answer(seen).text == "All delivered. 1,204 messages in the last hour."


def test_what_is_on_its_way_or_scheduled_is_no_trouble() -> None:
    on_its_way = [backlog("pending", "new", 3), backlog("sending", "new", 2), backlog("pending", "scheduled", 9)]
    seen = Overview(now=NOW, backlog=on_its_way, traffic=[Minute(NOW, accepted=1)], systems=2)

    assert answer(seen).tone == "ok"


def test_waiting_says_how_many_since_when_and_why() -> None:
    seen = Overview(
        now=NOW, backlog=[backlog("pending", "retrying", 12)], oldest_waiting=oldest("pending", "retrying"), systems=2
    )

    assert answer(seen).text == (
        "12 deliveries are waiting, the oldest since 02:11 UTC (41 min): "
        "erp/orders: the last try failed: 500 Internal Server Error."
    )


def test_dead_ones_are_told_when_nothing_waits() -> None:
    seen = Overview(
        now=NOW, backlog=[backlog("dead", "refused", 1)], oldest_dead=oldest("dead", "refused", "404"), systems=2
    )

    assert answer(seen).text == "1 delivery is dead since 02:11 UTC (41 min): erp/orders: it refused the message (404)."
    assert answer(seen).tone == "bad"


@pytest.mark.parametrize(("seen_s", "blamed"), [(2, False), (3600, True)])
def test_overdue_ones_blame_a_missing_deliver_process(seen_s: int, blamed: bool) -> None:
    process = Process(role="deliver", host="h", pid=1, started_at=SINCE, seen_at=NOW - timedelta(seconds=seen_s))
    seen = Overview(
        now=NOW,
        backlog=[backlog("pending", "new", 5, late=5)],
        oldest_waiting=oldest("pending", "new"),
        processes=[process],
        systems=2,
    )

    assert ("no deliver process is running" in answer(seen).text) is blamed
    assert bool(answer(seen).command) is blamed


def test_an_empty_installation_says_what_to_type() -> None:
    assert answer(Overview(now=NOW)).command.startswith("controlplane ")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (
            b'{"a":1e2,"b":[1.10,{}],"c":"x:{y"}',
            "json",
            '{\n  "a": 1e2,\n  "b": [\n    1.10,\n    {}\n  ],\n  "c": "x:{y"\n}',
        ),
        (b"plain <b>", "text", "plain <b>"),
        (b"\x00\xff\x10", "binary", "000000  00 ff 10                                         ..."),
        (b"", "empty", ""),
    ],
)
def test_bytes_are_shown_as_what_they_are(body: bytes, kind: str, text: str) -> None:
    """JSON is indented with every number spelled as it was; what is not text is hex."""
    found: Any = shown(body)

    assert (found.kind, found.text, found.size) == (kind, text, len(body))


@pytest.mark.parametrize("secret", ["whsec_c2VjcmV0LW9mLXRoZS1zaGlw", "a plain secret"])
def test_the_python_we_show_accepts_what_we_sign_and_nothing_else(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the Connect tab is run as it is shown, up to the server it starts."""
    monkeypatch.setenv("SIGNING_SECRET", secret)
    code = next(snippet.code for snippet in receiving(System(slug="erp"))[0].snippets if snippet.language == "python")
    shown_names: dict[str, Any] = {}
    exec(code.split("app = web.Application()")[0], shown_names)
    signing = (Secret("1", "erp-signing", "hmac", {"secret": secret}),)
    stamp = str(int(time.time()))
    signed = signature(map(signing_key, signing), "delivery-1", stamp, b"{}")
    headers = {"webhook-id": "delivery-1", "webhook-timestamp": stamp, "webhook-signature": signed}

    assert shown_names["is_ours"](headers, b"{}")
    assert not shown_names["is_ours"](headers, b"{ }")
    assert not shown_names["is_ours"]({**headers, "webhook-timestamp": "1"}, b"{}")
