"""What nobody sent before is accepted in one statement on PostgreSQL: it stores what the transaction would."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from endpoints.access.principal import Principal
from endpoints.models import EndpointState
from messaging import store
from messaging.intake import commit
from messaging.intake.commit import Accepted
from messaging.models import Delivery, Message, Rollup, SearchKey
from messaging.services.sending import send_many
from tests.messaging.factories import make_endpoint, make_system

# Each in a transaction of its own: within one, nothing is.
pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Principal(label="test", role="admin", via="test")
PLAIN: dict[str, Any] = {"source_system": "shop", "target_system": "crm", "payload": {"n": 1}}
LOT = (
    PLAIN,
    PLAIN | {"message_id": "one", "payload": "Ωμ\u0000 😀", "search_keys": {"order": "4711", "größe": "ü"}},
    PLAIN | {"ttl": 60, "priority": "emergency", "max_retries": 0},
    PLAIN | {"ttl": 60, "deliver_at": "2100-01-02T03:04:05Z"},
    PLAIN | {"deliver_at": "1969-01-02T03:04:05Z", "timestamp": "1970-01-01T00:00:00Z"},
    PLAIN | {"timestamp": "0001-01-01T00:00:00Z", "headers": {"X-A": "b"}, "correlation_id": "c", "reply_to": "shop"},
    PLAIN | {"target_system": ["crm", "crm/off", "erp"], "payload": "x" * 100_000},
    PLAIN | {"target_system": "crm/off"},
    PLAIN | {"target_system": "*", "message_type": "event", "event_type": "a.b"},
    {"source_system": "shop", "payload_base64": "AP8=", "recipient": "ann"},
    {"source_system": "shop", "payload_base64": ""},
)


def make_parties() -> None:
    for slug in ("shop", "crm", "erp"):
        make_endpoint(make_system(slug))
    make_endpoint(make_system("crm"), interface="off", state=EndpointState.DISABLED)


def stored() -> dict[str, Any]:
    """Return all that is stored, but for made-up ids; moments as how long after they were stored."""
    messages: list[Any] = []
    first = Message.objects.order_by("position").values_list("position", flat=True).first() or 0
    names = [field.attname for field in Message._meta.fields if field.attname not in ("position", "message_id")]
    for row in Message.objects.order_by("position"):
        values = {name: plain(getattr(row, name), row.created_at) for name in names}
        messages.append(values | {"position": row.position - first, "named": row.message_id == "one"})
    deliveries = []
    names = [field.attname for field in Delivery._meta.fields if field.attname not in ("id", "message_id")]
    for delivery in Delivery.objects.order_by("message_id", "system_id", "interface"):
        values = {name: plain(getattr(delivery, name), delivery.created_at) for name in names}
        deliveries.append(values | {"position": delivery.message_id - first})
    keys = [(key.message_id - first, key.name, key.value) for key in SearchKey.objects.order_by("message", "name")]
    counts = sorted(Rollup.objects.values_list("system__slug", "event", "error_class", "count", "total_ms"))
    return {"messages": messages, "deliveries": deliveries, "keys": keys, "counts": counts}


def plain(value: Any, since: datetime) -> Any:
    """Return a value that is the same whenever it was stored."""
    if isinstance(value, memoryview):
        return bytes(value)
    is_near = isinstance(value, datetime) and abs(value - since) < timedelta(hours=1)
    return value - since if is_near else value


def send(lot: Sequence[dict[str, Any]]) -> list[Any]:
    return [
        (answer.status, answer.deliveries) if isinstance(answer, Accepted) else answer.code
        for answer in send_many(lot, by=ADMIN)
    ]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many messages were stored in steps, each time."""
    counted: list[int] = []
    in_steps = commit._store_in_steps

    def counting(planned: Any) -> Any:
        counted.append(len(planned))
        return in_steps(planned)

    monkeypatch.setattr(commit, "_store_in_steps", counting)
    return counted


def is_at_once(steps: list[int]) -> bool:
    """Say whether nothing went in steps; SQLite does all of it so."""
    return not steps if connection.vendor == "postgresql" else bool(steps)


def test_the_same_is_stored_as_in_steps(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    make_parties()
    begun = store.now()
    answers = send(LOT)
    assert is_at_once(steps)
    at_once = stored()
    assert begun <= Message.objects.earliest("created_at").created_at <= store.now()
    assert Message.objects.values("created_at").distinct().count() == 1
    for model in (SearchKey, Delivery, Message, Rollup):
        model.objects.all().delete()

    monkeypatch.setattr(store, "can_accept_at_once", lambda: False)
    assert send(LOT) == answers
    assert stored() == at_once
    assert [row["position"] for row in at_once["messages"]] == list(range(len(LOT)))


def test_what_was_sent_before_is_a_duplicate(steps: list[int]) -> None:
    make_parties()
    named = PLAIN | {"message_id": "one"}
    assert send([named]) == [("accepted", 1)]
    assert is_at_once(steps)
    assert send([PLAIN, named]) == [("accepted", 1), ("duplicate", 1)]
    assert send([named | {"payload": 2}]) == ["id_conflict"]
    assert send([PLAIN | {"message_id": "two"}] * 2) == [("accepted", 1), ("duplicate", 1)]
    assert Message.objects.count() == 3


def test_a_name_that_was_stored_meanwhile_is_a_duplicate(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    """Asked for before the lock is ours, it was not there."""
    make_parties()
    named = PLAIN | {"message_id": "one"}
    assert send([named]) == [("accepted", 1)]
    find, looks = store.find_messages, []

    def too_early(pairs: Any) -> Any:
        looks.append(pairs)
        return {} if len(looks) == 1 else find(pairs)

    monkeypatch.setattr(store, "find_messages", too_early)
    steps.clear()
    if connection.vendor == "postgresql":
        assert send([PLAIN, named]) == [("accepted", 1), ("duplicate", 1)]
        assert steps == [2]
        assert Message.objects.count() == Delivery.objects.count() == 2


@pytest.mark.parametrize("field", ["idempotency_key", "ordering_key"])
def test_what_has_to_do_with_others_goes_in_steps(field: str, steps: list[int]) -> None:
    make_parties()
    assert send([PLAIN, PLAIN | {field: "k"}]) == [("accepted", 1)] * 2
    assert steps == [2]
