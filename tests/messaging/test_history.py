"""Size: `seed_history` makes what looks like life, and no page costs more because there is more of it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone

from endpoints.access.principal import Principal
from endpoints.edge.walks import LOOK
from endpoints.models import System
from messaging import filters
from messaging.api import DeliveryViewSet, MessageViewSet
from messaging.dead_letters import DeadLetterViewSet
from messaging.models import Attempt, DeadGroup, Delivery, Folded, Message, Reason, Rollup, SearchKey, State, Total
from messaging.services import ledger
from messaging.signature import signature
from tests.messaging.api_client import Api
from tests.messaging.factories import (
    make_attempt,
    make_delivery,
    make_endpoint,
    make_key,
    make_message,
    make_system,
    make_team,
)

ADMIN = Principal(label="test", role="admin", via="test")
SMALL, LARGE = 10_000, 30_000
# What a page may cost without looking at how the history has grown: SQLite's steps, PostgreSQL's rows.
FREE = {"sqlite": 120_000, "postgresql": 10_000}
GROWTH = 1.5  # of a history three times as long
# PostgreSQL reads a small table of messages whole for what no message has; from a million on it follows the list.
READ_WHOLE = {"postgresql": {"deliveries/ {'message_type': 'error'}"}}


def seed(count: int, *options: str) -> None:
    call_command("seed_history", str(count), *options)


@pytest.mark.django_db
def test_seeded_history_looks_like_life() -> None:
    """Every state, reason and error class occurs, every row hangs together, and the books balance."""
    Folded.objects.create(pk=1, through=timezone.now() + timedelta(days=1))
    seed(5_003, "--systems", "7", "--days", "3", "--dead", "50")

    assert Delivery.objects.count() == 5_003
    states = set(Delivery.objects.values_list("state", flat=True))
    assert states == set(State.values) - {State.PENDING, State.SENDING}
    assert set(Delivery.objects.filter(state="dead").values_list("reason", flat=True)) >= {"exhausted", "refused"}
    for group in DeadGroup.objects.all():
        texts = Delivery.objects.filter(group=group).values_list("error", flat=True)
        assert {signature(text) for text in texts} == {group.signature}
        assert len(texts) == group.count > 0
    assert sum(DeadGroup.objects.values_list("count", flat=True)) == Delivery.objects.filter(state="dead").count()
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"delivered", "retry", "dead"}
    assert Message.objects.values("source").distinct().count() == 7
    assert not Message.objects.filter(deliveries__isnull=True).exists()
    assert not Delivery.objects.exclude(message__created_at=F("created_at")).exists()
    assert SearchKey.objects.filter(name="order", value="100500").count() == 1
    assert sum(Delivery.objects.values_list("attempts", flat=True)) == Attempt.objects.count()
    newest = Message.objects.latest("position")
    assert abs((timezone.now() - newest.created_at).total_seconds()) < 300
    books = ledger.balance(ADMIN, Message.objects.earliest("position").created_at, timezone.now())
    assert books.balanced
    assert books.expected == 5_003
    assert _sums(Rollup) == _sums(Total)


@pytest.mark.django_db
def test_a_database_with_messages_is_seeded_only_when_forced() -> None:
    message = make_message()
    with pytest.raises(CommandError, match="--force"):
        seed(10)
    assert list(Message.objects.all()) == [message]
    seed(10, "--force")
    seed(10, "--force")

    assert Delivery.objects.count() == 20
    assert Delivery.objects.order_by("-message_id").values("id").distinct().count() == 20


@pytest.mark.django_db
def test_production_is_never_seeded(settings: Any) -> None:
    settings.ENVIRONMENT = "production"
    with pytest.raises(CommandError, match="production"):
        seed(10, "--force")

    assert not Message.objects.exists()


MISS = "00000000-0000-7000-8000-000000000000"
LONG_AGO, SOON = "2020-01-01T00:00:00Z", "2035-01-01T00:00:00Z"
SPAN = {"created_after": "{quarter}", "created_before": "{half}"}
COMMON = {
    "source_system": ("seed-001", "nobody"),
    "event_type": ("order.paid", "contract.signed", "nothing", "order.paid,nothing"),
    "message_type": ("request", "error"),
    "priority": ("high", "emergency"),
    "message_id": ("nothing",),
    "correlation_id": ("run-5", "nothing"),
    "ordering_key": ("customer-77", "nothing"),
    "created_after": ("{half}", SOON),
    "created_before": ("{half}", LONG_AGO),
    "search_key": ("order:100500", "customer:c77", "order:none"),
    "q": ("100500", "c77", "nothing", MISS),
}
# For each documented filter values that select much, little and nothing: nothing is what costs most.
SAMPLES: dict[str, tuple[Mapping[str, Any], dict[str, tuple[str, ...]]]] = {
    "messages/": (
        filters.MESSAGES,
        COMMON | {"target_system": ("seed-002", "nobody"), "recipient": ("anna",), "unrouted": ("true", "false")},
    ),
    "deliveries/": (
        filters.DELIVERIES,
        COMMON
        | {
            "state": (*State.values, "dead,expired"),
            "reason": (*Reason.values, "poison,address"),
            "system": ("seed-002", "nobody", "seed-001,seed-003"),
            "interface": ("main", "orders"),
            "endpoint": (MISS,),
            "error_class": ("timeout", "internal"),
            "finished_after": ("{half}", SOON),
            "finished_before": ("{half}", LONG_AGO),
            "dead_group": ("{group}", MISS),
            "resolved": ("true", "false"),
        },
    ),
    "attempts/": (
        filters.ATTEMPTS,
        {
            "delivery": (MISS,),
            "endpoint": (MISS,),
            "system": ("seed-002", "nobody"),
            "outcome": ("delivered", "dead", "lost"),
            "error_class": ("timeout", "internal"),
            "status_code": ("200", "503", "404"),
            "started_after": ("{half}", SOON),
            "started_before": ("{half}", LONG_AGO),
        },
    ),
}
# Together, and in other orders.
COMBINED: tuple[tuple[str, dict[str, str]], ...] = (
    ("deliveries/", {"state": "dead", "system": "seed-002"}),
    ("deliveries/", {"state": "dead", "event_type": "nothing"}),
    ("deliveries/", {"system": "seed-002", "error_class": "internal"}),
    ("deliveries/", {"system": "seed-002", "state": "delivered", "error_class": "timeout"}),
    ("deliveries/", {"source_system": "seed-001", "state": "dead", "reason": "poison"}),
    ("deliveries/", {"q": "c77", "state": "expired"}),
    ("deliveries/", SPAN | {"event_type": "nothing"}),
    ("messages/", SPAN | {"target_system": "seed-002", "event_type": "nothing"}),
    *(("deliveries/", {"ordering": sign + "due_at"}) for sign in ("", "-")),
    *(("deliveries/", {"ordering": "-finished_at", "state": state}) for state in ("dead", "expired", "pending")),
    *(("deliveries/", {"ordering": sign + "finished_at", "system": "nobody"}) for sign in ("", "-")),
    *(("deliveries/", {"ordering": sign + "finished_at", "finished_before": "{half}"}) for sign in ("", "-")),
    *((path, {"ordering": "created_at"}) for path in ("messages/", "deliveries/", "dead-letters/")),
    ("dead-letters/", {"ordering": "finished_at", "system": "seed-002"}),
    ("dead-letters/", {"reason": "poison"}),
    ("dead-letters/", {"dead_group": "{group}", "reason": "address"}),
    *(("dead-letters/groups/", {"ordering": sign + name}) for name in ("last_at", "count") for sign in ("", "-")),
    ("dead-letters/groups/", {"resolved": "false", "q": "nothing"}),
    ("attempts/", {"ordering": "started_at"}),
    ("audit/", {"actor": "nobody"}),
)


def all_queries() -> list[tuple[str, dict[str, str]]]:
    single = [
        (path, {name: value})
        for path, (_, samples) in SAMPLES.items()
        for name, values in samples.items()
        for value in values
    ]
    plain: list[tuple[str, dict[str, str]]] = [(path, {}) for path in (*SAMPLES, "dead-letters/")]
    return [*plain, *single, *COMBINED]


def test_every_documented_filter_has_a_sample() -> None:
    """A new filter or order comes with its proof below."""
    for table, samples in SAMPLES.values():
        assert set(samples) == set(table)
    asked = {(path, query["ordering"].lstrip("-")) for path, query in COMBINED if "ordering" in query}
    views = {"messages/": MessageViewSet, "deliveries/": DeliveryViewSet, "dead-letters/": DeadLetterViewSet}
    offered = {(path, name) for path, view in views.items() for name in view.orderings}
    assert offered - asked == {("messages/", "position")}  # the same as created_at


@pytest.mark.django_db
@pytest.mark.timeout(300)
@pytest.mark.flaky(reruns=1)  # PostgreSQL plans by a sample of the rows
def test_a_page_costs_the_same_however_long_the_history(admin: Api) -> None:
    """Counted in the database's own steps, over a history and one three times as long: times would say nothing here."""
    seed(SMALL)
    before = _costs(admin)
    seed(LARGE - SMALL, "--force")
    after = _costs(admin)

    grown = {
        query: (before[query], cost)
        for query, cost in after.items()
        if query not in READ_WHOLE.get(connection.vendor, ())
        and cost > max(FREE[connection.vendor], GROWTH * before[query])
    }
    assert not grown


@pytest.mark.django_db
def test_history_is_made_at_once_where_the_statistics_say_that_there_is_none() -> None:
    """The planner took a table that it had found empty for one row, and joined 25,000 by reading it 25,000 times."""
    with suppress(DatabaseError), transaction.atomic():
        seed(15_000)
        raise DatabaseError("leaves tables of many pages and no rows")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    began = time.monotonic()
    seed(15_000)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE" if connection.vendor == "postgresql" else "SELECT 1")

    assert time.monotonic() - began < 30


@pytest.mark.django_db
@pytest.mark.timeout(300)
def test_pages_cut_by_the_bound_lead_to_every_match(admin: Api) -> None:
    """A page may be short or empty where few rows match; following `next`, and `previous`, misses none."""
    seed(25_000)
    oldest, newest = Delivery.objects.order_by("message_id")[3], Delivery.objects.order_by("-message_id")[3]
    Delivery.objects.filter(pk__in=[oldest.pk, newest.pk]).update(interface="orders")
    _, body = admin.get("deliveries/", interface="orders")
    forth = [[row["id"] for row in body["results"]]]
    while body["next"]:
        _, body = admin.get(body["next"])
        forth.append([row["id"] for row in body["results"]])
    back = [[row["id"] for row in body["results"]]]
    while body["previous"]:
        _, body = admin.get(body["previous"])
        back.append([row["id"] for row in body["results"]])

    visitor = Client()
    visitor.force_login(User.objects.create_superuser("visitor"))
    assert b"None so far" not in visitor.get("/admin/messaging/delivery/?interface=orders").content
    assert b"None so far" in visitor.get("/admin/messaging/delivery/?interface=elsewhere").content
    assert (forth[0], forth[-1]) == ([str(newest.pk)], [str(oldest.pk)])
    assert forth[1:-1] == [[]] * (25_000 // LOOK - 2)
    assert [row for page in back for row in page] == [str(oldest.pk), str(newest.pk)]


def make_rare() -> Delivery:
    """Return a delivery that differs from all that is seeded in everything an index leads to."""
    system = make_system("rare-system")
    endpoint = make_endpoint(system)
    names = dict.fromkeys(("message_id", "event_type", "correlation_id", "ordering_key"), "rare")
    message = make_message("rare-source", **names, search_keys={"rare": "key"})
    fields = {"reason": "transform", "error_class": "tls", "ordering_key": "rare", "endpoint": endpoint}
    delivery = make_delivery(message, system, State.DEAD, **fields)
    make_attempt(delivery, outcome="lost", error_class="tls", status_code=418, endpoint=endpoint)
    return delivery


@pytest.mark.django_db
def test_an_index_leads_to_one_old_row_at_once(admin: Api) -> None:
    """Not after pages and pages that look at newer ones: each filter of these has its way."""
    rare = make_rare()
    seed(LOOK * 2, "--force")
    names = {"message_id": "rare", "correlation_id": "rare", "ordering_key": "rare", "event_type": "rare", "q": "key"}
    names |= {"search_key": "rare:key", "source_system": "rare-source"}
    asked = {
        "messages/": names | {"target_system": "rare-system"},
        "deliveries/": names
        | {"system": "rare-system", "endpoint": str(rare.endpoint_id), "reason": "transform", "error_class": "tls"}
        | {"q": str(rare.pk)},
        "attempts/": {"delivery": str(rare.pk), "outcome": "lost", "error_class": "tls", "status_code": "418"},
    }
    for path, queries in asked.items():
        for name, value in queries.items():
            assert len(admin.results(path, **{name: value})) == 1, (path, name)
    ended = admin.results("deliveries/", ordering="finished_at", state="dead")
    assert [row["id"] for row in ended][:1] == [str(rare.pk)]
    assert len(admin.results("dead-letters/", system="rare-system", ordering="-finished_at")) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["rare-system", "rare-source"])
def test_a_team_with_one_old_row_sees_it_at_once(end: str) -> None:
    """Also when all the newer ones are another's, and on whichever end of it the team is."""
    rare = make_rare()
    seed(LOOK * 2, "--force")
    System.objects.exclude(slug=end).update(owner=make_team("others"))
    System.objects.filter(slug=end).update(owner=make_team("ours"))
    api = Api(make_key("viewer", team=make_team("ours")))

    assert [row["id"] for row in api.results("deliveries/")] == [str(rare.pk)]
    assert [row["message_id"] for row in api.results("messages/")] == ["rare"]


@pytest.mark.django_db
def test_a_span_of_time_is_gone_to_at_once(admin: Api) -> None:
    """However far back it is, the first page is full of it."""
    seed(25_000, "--dead", "100")
    moments = list(Message.objects.order_by("position").values_list("created_at", flat=True))
    first, last = (moments[len(moments) // part].isoformat() for part in (20, 10))
    for path in ("messages/", "deliveries/", "dead-letters/"):
        rows = admin.results(path, created_after=first, created_before=last)
        assert len(rows) == 50, path
        assert all(first <= row["created_at"].replace("Z", "+00:00") < last for row in rows), path
    for query in ({}, {"ordering": "finished_at"}, {"ordering": "-finished_at", "state": "dead"}):
        assert len(admin.results("deliveries/", finished_after=first, finished_before=last, **query)) == 50, query
    assert len(admin.results("attempts/", started_after=first, started_before=last)) == 50
    assert admin.results("messages/", created_after=SOON) == admin.results("messages/", created_before=LONG_AGO) == []


PAGES = (
    "/admin/",
    "/admin/systems/seed-002/",
    "/admin/messaging/message/",
    "/admin/messaging/delivery/",
    "/admin/messaging/delivery/?state=dead&system=seed-002",
    "/admin/messaging/delivery/?event_type=nothing",
    "/admin/endpoints/auditentry/?q=nothing",
    "/admin/dead-letters/",
    "/admin/dead-letters/?ordering=-count&q=step",
    "/admin/dead-letters/?resolved=true",
)


def _costs(api: Api) -> dict[str, int]:
    """Return what each query costs; the first request of all is not counted, it prepares things."""
    moments = list(Message.objects.order_by("position").values_list("created_at", flat=True))
    marks = {"quarter": moments[len(moments) // 4].isoformat(), "half": moments[len(moments) // 2].isoformat()}
    marks["group"] = str(DeadGroup.objects.order_by("-count")[0].pk)
    api.results("systems/")
    costs = {}
    for path, query in all_queries():
        given = {name: value.format(**marks) for name, value in query.items()}
        with _counted() as count:
            api.results(path, **given)
        costs[f"{path} {query}"] = count[0]
    visitor = Client()
    visitor.force_login(User.objects.get_or_create(username="visitor", is_superuser=True, is_staff=True)[0])
    newest = Message.objects.latest("position")
    of_group = f"/admin/dead-letters/{marks['group']}/"
    for page in (*PAGES, of_group, f"/admin/messaging/message/{newest.pk}/change/"):
        assert visitor.get(page).status_code == 200
        with _counted() as count:
            visitor.get(page)
        costs[page.replace(str(newest.pk), "").replace(marks["group"], "")] = count[0]
    return costs


@contextmanager
def _counted() -> Iterator[list[int]]:
    """Yield what will hold how much the database did meanwhile."""
    count = [0]
    if connection.vendor == "sqlite":
        step = 100

        def add() -> int:
            count[0] += step
            return 0

        connection.connection.set_progress_handler(add, step)
        yield count
        connection.connection.set_progress_handler(None, 0)
        return
    with connection.cursor() as cursor:
        # On tables so small it may be right to read them whole, and would say nothing of large ones.
        for way in ("seqscan", "hashjoin", "mergejoin"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        first = _rows_read(cursor)
        yield count
        count[0] = _rows_read(cursor) - first


def _rows_read(cursor: Any) -> int:
    cursor.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE relname IN ('messaging_message', 'messaging_delivery', 'messaging_attempt', 'messaging_searchkey')"
    )
    return int(cursor.fetchone()[0] or 0)


def _sums(model: Any) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for event, error_class, count in model.objects.values_list("event", "error_class", "count"):
        sums[event, error_class] = sums.get((event, error_class), 0) + count
    return sums
