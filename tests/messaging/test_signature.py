"""Signatures: texts of one cause are one, those of different causes are not, and no text makes them slow. Pure."""

import json
import random
import time
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.signature import MOST_KEPT, digest, parts, signature

CHANCE = random.Random(4711)
NAMES = (
    "Zoë Müller",
    "Łukasz Żak",
    "Anna Kim",
    "Владимир Петров",
    "田中太郎",
    "José O'Neil",
    "Vincent van der Berg",
    "محمد علي",
)


def number(digits: int = 7) -> int:
    return CHANCE.randrange(1, 10 ** CHANCE.randint(1, digits))


def host() -> str:
    names = (
        f"db-{number(2)}.internal:{CHANCE.choice((5432, 6432))}",
        f"10.{number(2)}.{number(2)}.{number(2)}:5432",
        f"[2001:db8::{number(4):x}]:5432",
        "erp.example.com:443",
    )
    return CHANCE.choice(names)


def took() -> str:
    return CHANCE.choice(
        (f"{number(3)} ms", f"{number(3)}ms", f"{CHANCE.random() * 9:.2f} s", f"{CHANCE.random():.1f}s")
    )


def order() -> str:
    return CHANCE.choice(
        (
            f"ORD-{number()}",
            f"ord_{CHANCE.getrandbits(60):x}",
            f"A{number()}",
            str(uuid.UUID(int=CHANCE.getrandbits(128))),
        )
    )


def deadlock() -> str:
    return (
        f"deadlock detected\nDETAIL:  Process {number()} waits for ShareLock on transaction {number()}; blocked by"
        f" process {number()}.\nProcess {number()} waits for ExclusiveLock on tuple ({number(3)},{number(2)})"
        f" of relation {number()} of database {number()}; blocked by process {number()}.\nHINT: See server log."
    )


def refused_order() -> str:
    """Answers differ in how many orders they name, how they spell them, and whether names are escaped."""
    errors = [
        {
            "field": "customer",
            "message": f"order {order()}: customer {CHANCE.choice(NAMES)} is blocked",
            "order": order(),
        }
        for _ in range(CHANCE.randint(1, 5))
    ]
    body = {"errors": errors, "request_id": f"{CHANCE.getrandbits(64):x}", "at": "2026-01-02T03:04:05Z"}
    return "answered 422 Unprocessable Entity\n" + json.dumps(body, ensure_ascii=CHANCE.random() < 0.5)


def broken_tls() -> str:
    return f"TLS handshake with {host()} failed after {took()}: certificate has expired"


CAUSES = (deadlock, refused_order, broken_tls)


def test_five_thousand_texts_of_three_causes_are_three() -> None:
    """With process ids, orders, hosts, times and names in every script."""
    texts = [cause() for cause in CAUSES for _ in range(1667)]

    assert len(set(texts)) > 4_500
    assert len({signature(text) for text in texts}) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: f"could not connect to {host()}: Connection refused (took {took()})",
        lambda: (
            f'duplicate key violates unique constraint "orders_pkey"\nDETAIL:  Key (no)=({order()}) already exists.'
        ),
        lambda: f"customer {CHANCE.choice(NAMES)} is not known to branch {number(2)}",
        lambda: f"customer '{CHANCE.choice(NAMES)}' is not known",
        lambda: json.dumps({"order": order(), "name": CHANCE.choice(NAMES), "code": "duplicate"}, ensure_ascii=False),
        lambda: json.dumps({"order_id": [f"order {number()} does not exist"]}),
        lambda: f"GET https://h{number(2)}.example/api/v1/orders/{number()}/items?x={number()} gave no token",
        lambda: f"/var/spool/{number()}/in: No space left on device",
        lambda: f"java.sql.SQLTransactionRollbackException: (conn={number()}) Lock wait timeout exceeded",
        lambda: f"job {uuid.UUID(int=CHANCE.getrandbits(128))} of 2026-0{number(1)}-11 1{number(1)}:04:05 was cut",
    ],
)
def test_what_varies_does_not_matter(make: Callable[[], str]) -> None:
    assert len({signature(make()) for _ in range(500)}) == 1


DIFFERENT = (
    "answered 400 Bad Request",
    "answered 409 Conflict",
    "answered 422 Unprocessable Entity",
    "404 Not Found",
    "503 Service Unavailable",
    "[Errno 111] Connection refused",
    "[Errno 113] No route to host",
    'duplicate key value violates unique constraint "orders_pkey"',
    'duplicate key value violates unique constraint "customers_email_key"',
    'null value in column "email" violates not-null constraint',
    'null value in column "phone" violates not-null constraint',
    '{"code": "duplicate", "order": "4711"}',
    '{"code": "closed", "order": "4711"}',
    '{"amount": ["must be positive"]}',
    '{"amount": ["is required"]}',
    '{"email": ["is required"]}',
    '{"error": {"status": 1213}}',
    '{"error": {"status": 1205}}',
    '{"error_code": 1213, "statusCode": 409}',
    '{"error_code": 1213, "statusCode": 422}',
    '{"error_code": 1205, "statusCode": 422}',
    "got HTTP/1.1 503 from 10.0.0.7",
    "got HTTP/1.1 504 from 10.0.0.7",
    "TLS handshake with a.example:443 failed: certificate has expired",
    "TLS handshake with a.example:443 failed: self-signed certificate in chain",
    "psycopg2.errors.DeadlockDetected",
    "psycopg2.errors.UniqueViolation",
    "customer Zoë Müller is blocked",
    "customer Zoë Müller is closed",
    "Заказ закрыт",
    "Клиент заблокирован",
)


def test_different_causes_stay_apart() -> None:
    """Status codes, constraints, columns, fields, classes and the words of any language tell them apart."""
    found = {text: signature(text) for text in DIFFERENT}

    assert len(set(found.values())) == len(DIFFERENT), found


def test_a_signature_reads_like_the_error() -> None:
    text = "order ORD-17 of Anna (anna@example.com) at 10.0.0.7:5432 failed after 12 ms on 2026-01-02"

    assert signature(text) == "order <id> of Anna (<email>) at <host> failed after <n> on <time>"
    assert [part for is_slot, part in parts("a <n> b") if is_slot] == ["<n>"]
    assert digest("a") != digest("b")


HOSTILE = (
    "'" * 500, '"' * 500,
    '"a ' * 167, "{" * 500, "[{" * 250, "a1" * 250, "<n>" * 167, "=(" * 250, "1:" * 250, ":" * 500,
    '\\"' * 250, "\\u0000" * 83, "\\ud800" * 83, "é" * 500, "A" * 500, "Aa" * 250, "},{" * 167, "0" * 500, "1.1," * 125,
    "customer " * 55, "Customer Zoë " * 38, "van der " * 62, "a'" * 250, "://" * 167, "@." * 250, "-" * 500, "f" * 500,
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_takes_no_longer_than_any_other(text: str) -> None:
    """Half the text, at least a third of the time: the work grows with the length, not with its square."""
    started = time.perf_counter()
    for _ in range(20):
        signature(text)
    took_ms = (time.perf_counter() - started) * 1000 / 20

    assert took_ms < 10  # most take a third of a millisecond


@given(text=st.text(max_size=700))
def test_any_text_has_a_short_signature_that_can_be_stored(text: str) -> None:
    found = signature(text)

    assert len(found) <= MOST_KEPT
    assert found == signature(text)
    if "\0" not in text:
        assert "\0" not in found
    assert len(digest(found)) == 32
