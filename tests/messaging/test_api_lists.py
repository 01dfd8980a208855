"""Lists: cursor pages that inserts do not disturb, filters that select, and clear refusals of everything else."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from messaging.models import Delivery, Reason, State
from tests.messaging.api_client import Api
from tests.messaging.factories import (
    NOW,
    make_attempt,
    make_delivery,
    make_endpoint,
    make_message,
    make_system,
)

LISTS = ("messages/", "deliveries/", "dead-letters/", "attempts/")
ORDERINGS = {
    "messages/": ("created_at", "position"),
    "deliveries/": ("created_at", "due_at", "finished_at"),
    "dead-letters/": ("created_at", "finished_at"),
    "attempts/": ("started_at",),
}


def walk(api: Api, path: str, **query: Any) -> list[list[str]]:
    """Return the ids of every page, following `next`."""
    pages = []
    status, body = api.get(path, **query)
    while True:
        assert status == 200
        pages.append([row.get("id") or row["message_id"] for row in body["results"]])
        if body["next"] is None:
            return pages
        status, body = api.get(body["next"])


def make_varied(count: int = 7) -> list[Delivery]:
    """Return deliveries with equal and missing values in everything that lists are ordered by."""
    states = [State.DELIVERED, State.DEAD, State.PENDING]
    made = []
    for number in range(count):
        message = make_message(created_at=NOW + timedelta(minutes=number // 2))
        made.append(make_delivery(message, state=states[number % 3], due_at=NOW + timedelta(minutes=number // 3)))
        make_attempt(made[-1])
    return made


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_pages_hold_every_row_once_in_every_ordering(admin: Api, path: str, sign: str) -> None:
    """Equal and missing values of the ordering field neither repeat nor lose a row."""
    make_varied()
    for ordering in ORDERINGS[path]:
        whole = walk(admin, path, ordering=sign + ordering, page_size=500)[0]
        paged = walk(admin, path, ordering=sign + ordering, page_size=2)

        assert [row for page in paged for row in page] == whole
        assert len(set(whole)) == len(whole) > 0
        assert all(len(page) <= 2 for page in paged)


@pytest.mark.parametrize("ordering", ["finished_at", "-finished_at", "-created_at", "due_at"])
def test_previous_leads_back_over_the_same_pages(admin: Api, ordering: str) -> None:
    make_varied()
    forth = walk(admin, "deliveries/", ordering=ordering, page_size=3)
    _, body = admin.get("deliveries/", ordering=ordering, page_size=3)
    while body["next"]:
        _, body = admin.get(body["next"])
    back = [[row["id"] for row in body["results"]]]
    while body["previous"]:
        _, body = admin.get(body["previous"])
        back.append([row["id"] for row in body["results"]])

    assert back == forth[::-1]


def test_rows_inserted_while_paging_do_not_shift_the_pages(admin: Api) -> None:
    before = [str(make_delivery().pk) for _ in range(4)][::-1]
    _, first = admin.get("deliveries/", page_size=2)
    make_delivery()
    _, second = admin.get(first["next"])

    assert [row["id"] for row in first["results"] + second["results"]] == before


def test_the_page_behind_deleted_rows_is_empty_and_leads_to_the_first(admin: Api) -> None:
    made = [make_delivery() for _ in range(4)]
    _, first = admin.get("deliveries/", page_size=2)
    Delivery.objects.filter(pk__in=[row.pk for row in made[:2]]).delete()
    _, second = admin.get(first["next"])
    _, again = admin.get(second["previous"])

    assert second["results"] == []
    assert second["next"] is None
    assert [row["id"] for row in again["results"]] == [str(made[3].pk), str(made[2].pk)]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(admin: Api, path: str) -> None:
    counts = []
    for rows in (1, 12):
        for _ in range(rows):
            make_attempt(make_delivery(state=State.DEAD))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert admin.results(path, page_size=500)
        counts.append(len(queries))

    # One page, for messages one more for all their deliveries; the key's own query comes and goes.
    assert max(counts) <= 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "abc"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "é\u0000" * 9}, "cursor"),
        ({"cursor": "x" * 5000}, "cursor"),
        ({"cursor": "WzAsMSwxXQ:1tAAAA:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, "cursor"),
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "501"}, "page_size"),
        ({"page_size": "-1"}, "page_size"),
        ({"page_size": "ten"}, "page_size"),
        ({"page_size": "٣"}, "page_size"),
        ({"page_size": "9" * 400}, "page_size"),
        ({"ordering": "payload"}, "ordering"),
        ({"ordering": "--created_at"}, "ordering"),
        ({"ordering": "created_at,id"}, "ordering"),
        ({"ordering": ""}, "ordering"),
        ({"colour": "red"}, "colour"),
        ({"offset": "10"}, "offset"),
        ({"created_at__gte": "2026-01-01"}, "created_at__gte"),
    ],
)
@pytest.mark.parametrize("path", LISTS)
def test_a_bad_page_or_unknown_parameter_is_400_naming_it(
    admin: Api, path: str, query: dict[str, str], field: str
) -> None:
    make_attempt(make_delivery(state=State.DEAD))
    status, body = admin.get(path, **query)

    assert (status, body["code"]) == (400, "malformed")
    assert [error["field"] for error in body["errors"]] == [field]
    assert len(admin.results(path)) == 1


def test_a_cursor_of_another_list_or_order_is_refused(admin: Api) -> None:
    for _ in range(3):
        make_attempt()
    _, body = admin.get("messages/", page_size=1, ordering="-created_at")
    cursor = parse_qs(urlsplit(body["next"]).query)["cursor"][0]

    assert admin.get("messages/", ordering="-created_at", cursor=cursor)[0] == 200
    assert admin.get("messages/", ordering="created_at", cursor=cursor)[0] == 400
    assert admin.get("messages/", ordering="-position", cursor=cursor)[0] == 400
    assert admin.get("deliveries/", ordering="-created_at", cursor=cursor)[0] == 400


def test_an_unknown_parameter_names_the_nearest_one(admin: Api) -> None:
    _, body = admin.get("deliveries/", stat="dead")

    assert body["detail"] == "unknown query parameter 'stat'; did you mean 'state'?"
    assert "'state'" in body["errors"][0]["detail"]


BAD_VALUES = {
    "state": ["lost", "", "pending,", "DEAD"],
    "reason": ["because"],
    "endpoint": ["1", "not-a-uuid", "\u0000"],
    "error_class": ["boom"],
    "message_type": ["mail"],
    "priority": ["9", "urgent"],
    "created_after": ["yesterday", "2026-02-31T00:00:00Z", "0001-01-01T00:00:00+23:00", "9" * 40, "2026-13-01"],
    "finished_before": ["9999-12-31T23:59:59-23:00"],
    "search_key": ["order", ":1", "order:", "a\u0000:b"],
    "message_id": ["", "m\u0000", "m" * 501],
    "q": ["", "\u0000"],
    "system": [",".join(["x"] * 51)],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values])
def test_a_bad_filter_value_is_400_naming_the_field(admin: Api, name: str, value: str) -> None:
    make_delivery()
    status, body = admin.get("deliveries/", **{name: value})

    assert (status, [error["field"] for error in body["errors"]]) == (400, [name])
    assert len(admin.results("deliveries/")) == 1


def test_every_bad_parameter_is_named_at_once(admin: Api) -> None:
    _, body = admin.get("deliveries/", state="x", endpoint="y")

    assert {error["field"] for error in body["errors"]} == {"state", "endpoint"}


def test_each_delivery_filter_selects_its_own(admin: Api) -> None:
    """One row matches every filter, the other none."""
    erp, shop = make_system("erp"), make_system("shop")
    endpoint = make_endpoint(erp)
    make_delivery(make_message("web"), "crm")
    message = make_message(
        shop,
        message_id="wanted",
        event_type="order.paid",
        message_type="command",
        correlation_id="c-1",
        ordering_key="k",
        search_keys={"order": "4711"},
        created_at=NOW + timedelta(days=1),
    )
    wanted = make_delivery(
        message,
        erp,
        State.DEAD,
        interface="orders",
        endpoint=endpoint,
        error_class="timeout",
        priority=3,
        ordering_key="k",
        reason=Reason.REFUSED,
    )
    later, earlier = (NOW + timedelta(hours=5)).isoformat(), (NOW + timedelta(days=2)).isoformat()
    queries = {
        "state": "dead,pending",
        "reason": "refused",
        "system": "erp",
        "interface": "orders",
        "endpoint": str(endpoint.pk),
        "error_class": "timeout",
        "message_id": "wanted",
        "source_system": "shop",
        "event_type": "order.paid",
        "message_type": "command",
        "priority": "critical",
        "correlation_id": "c-1",
        "ordering_key": "k",
        "search_key": "order:4711",
        "created_after": later,
        "finished_after": later,
    }
    for name, value in queries.items():
        assert [row["id"] for row in admin.results("deliveries/", **{name: value})] == [str(wanted.pk)], name
    for name in ("created_before", "finished_before"):
        assert len(admin.results("deliveries/", **{name: later})) == 1, name
        assert len(admin.results("deliveries/", **{name: earlier})) == 2, name
    assert len(admin.results("deliveries/", **queries)) == 1


@pytest.mark.parametrize("path", ["messages/", "deliveries/"])
def test_q_finds_by_message_id_delivery_id_correlation_and_search_key(admin: Api, path: str) -> None:
    message = make_message(message_id="m-7", correlation_id="corr", search_keys={"order": "4711"})
    delivery = make_delivery(message)
    make_delivery(make_message(search_keys={"order": "4712"}))

    for text in ("m-7", "corr", "4711", str(delivery.pk)):
        assert [row["message_id"] for row in admin.results(path, q=text)] == ["m-7"], text
    assert admin.results(path, q="nothing") == []


def test_each_message_filter_selects_its_own(admin: Api) -> None:
    make_delivery(make_message(created_at=NOW - timedelta(days=1)))
    wanted = make_message(
        "erp",
        message_id="wanted",
        event_type="order.paid",
        message_type="command",
        priority=3,
        correlation_id="c-1",
        ordering_key="k",
        recipient="anna",
        unrouted=True,
        search_keys={"order": "4711"},
    )
    make_delivery(wanted, "ledger")
    queries = {
        "message_id": "wanted",
        "source_system": "erp",
        "target_system": "ledger",
        "event_type": "order.paid",
        "message_type": "command",
        "priority": "critical,emergency",
        "correlation_id": "c-1",
        "ordering_key": "k",
        "recipient": "anna",
        "unrouted": "true",
        "search_key": "order:4711",
        "created_after": NOW.isoformat(),
    }
    for name, value in queries.items():
        assert [row["message_id"] for row in admin.results("messages/", **{name: value})] == ["wanted"], name
    assert len(admin.results("messages/", created_before=NOW.isoformat())) == 1


def test_a_message_to_two_systems_is_listed_once(admin: Api) -> None:
    message = make_message()
    make_delivery(message, "crm")
    make_delivery(message, "erp")

    assert len(admin.results("messages/", target_system="crm,erp")) == 1


def test_each_attempt_filter_selects_its_own(admin: Api) -> None:
    endpoint = make_endpoint(make_system("erp"))
    delivery = make_delivery(system="erp")
    wanted = make_attempt(
        delivery,
        endpoint=endpoint,
        outcome="dead",
        error_class="timeout",
        status_code=504,
        started_at=NOW + timedelta(days=1),
    )
    make_attempt()
    queries = {
        "delivery": str(delivery.pk),
        "endpoint": str(endpoint.pk),
        "system": "erp",
        "outcome": "dead",
        "error_class": "timeout",
        "status_code": "504",
        "started_after": (NOW + timedelta(hours=1)).isoformat(),
    }
    for name, value in queries.items():
        assert [row["id"] for row in admin.results("attempts/", **{name: value})] == [str(wanted.pk)], name
    for value in ("99", "9" * 30, "x"):
        assert admin.get("attempts/", status_code=value)[0] == 400
