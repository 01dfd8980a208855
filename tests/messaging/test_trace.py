"""The trace of a key: every hop of it and no other, gaps named, nothing of other teams, and never too much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from messaging.models import MessageType, RetentionMark, State
from messaging.services import finding
from tests.messaging.api_client import Api
from tests.messaging.factories import NOW, make_delivery, make_key, make_message, make_system, make_team


def hops(api: Api, query: str, **more: Any) -> list[str]:
    status, body = api.get("find/", q=query, **more)
    assert status == 200, body
    return [hop["message_id"] for hop in body["hops"]]


def story() -> dict[str, Any]:
    """An order goes from the shop to erp, which answers and bills; the bill does not reach billing."""
    order = make_message("shop", message_id="m-1", correlation_id="c-1", search_keys={"order": "4711"})
    to_erp = make_delivery(order, "erp")
    answer = make_message(
        make_system("erp"), message_id=str(to_erp.pk), message_type=MessageType.RESPONSE, correlation_id="c-1"
    )
    bill = make_message(make_system("erp"), message_id="m-3", correlation_id="c-1", search_keys={"invoice": "I-9"})
    to_billing = make_delivery(bill, "billing", State.DEAD, error="answered 500", error_class="server_error")
    make_delivery(make_message("shop", message_id="m-other", search_keys={"order": "4712"}), "erp")
    return {"order": order, "to_erp": to_erp, "answer": answer, "bill": bill, "to_billing": to_billing}


@pytest.mark.parametrize(
    "query",
    ["4711", "order=4711", "order:4711", " 4711 ", "m-1", "c-1", "m-3", "I-9", "{to_erp}", "{to_billing}"],
)
def test_whatever_one_has_in_hand_leads_to_the_whole_story(viewer: Api, query: str) -> None:
    """Over all systems, in order of time, and nothing of another order."""
    told = story()
    found = hops(viewer, query.format(**{name: str(row.pk) for name, row in told.items()}))

    assert found == ["m-1", str(told["to_erp"].pk), "m-3"]


def test_a_hop_says_what_became_of_it_and_how_it_was_found(viewer: Api) -> None:
    story()
    _, body = viewer.get("find/", q="4711")
    first, answer, last = body["hops"]

    assert body["text"] == "'4711': 3 messages over 3 systems, 1 of 2 deliveries not delivered"
    assert (first["found_by"], answer["found_by"]) == (["order=4711"], ["correlation id c-1"])
    assert (first["text"], answer["text"][:12]) == ("shop sent event 2026-01-02 03:04 UTC", "erp answered")
    assert [step["state"] for step in first["deliveries"] + last["deliveries"]] == ["delivered", "dead"]
    assert last["deliveries"][0]["text"].startswith("erp -> billing, dead since 2026-01-02 03:04 UTC: every one")
    assert last["deliveries"][0]["text"].endswith("last 'answered 500'")
    assert body["other_keys"] == ["invoice=I-9"]


def test_a_key_that_too_many_share_is_not_followed(viewer: Api) -> None:
    """From an id the business keys are followed, but a customer's hundred orders are not one story."""
    for number in range(25):
        make_message("shop", message_id=f"m-{number}", search_keys={"customer": "77", "order": str(number // 2)})

    assert hops(viewer, "m-4") == ["m-4", "m-5"]
    assert viewer.get("find/", q="m-4")[1]["other_keys"] == ["customer=77", "order=2"]


def test_what_is_missing_is_named(viewer: Api) -> None:
    """Who was sent it and is silent since, of those that speak at all; what retention took."""
    message = make_message("shop", message_id="m-1", search_keys={"order": "1"}, payload=None)
    make_message(make_system("erp"), message_id="m-0")
    make_delivery(message, "erp", finished_at=NOW + timedelta(seconds=3))
    make_delivery(message, "archive")  # takes, and never says anything
    lost = make_message("shop", message_id="m-2", search_keys={"order": "1"}, unrouted=True)
    RetentionMark.objects.create(kind="messages", place="1", ended_at=NOW)
    _, body = viewer.get("find/", q="1")

    assert body["gaps"] == ["erp was sent it 2026-01-02 03:04 UTC, nothing came from erp since"]
    assert body["hops"][0]["gaps"] == ["shop's message is older than retention: bodies removed after 30 days"]
    assert body["hops"][1]["gaps"] == ["it matched no target: nobody was sent it"]
    assert body["kept_since"] == "2026-01-02T03:04:05Z"

    make_message(make_system("erp"), message_id="m-3", search_keys={"order": "1"})
    assert viewer.get("find/", q="1")[1]["gaps"] == []
    assert lost.unrouted


def test_what_is_not_known_says_what_that_means(viewer: Api) -> None:
    RetentionMark.objects.create(kind="messages", place="1", ended_at=NOW)
    make_message()
    status, body = viewer.get("find/", q="nothing")

    assert (status, body["hops"], body["next"]) == (200, [], None)
    assert body["text"] == (
        "'nothing' is not known here: it was never accepted, or it is older than retention"
        " (messages are kept for 90 days, and none from before 2026-01-02 03:04 UTC is there)."
    )


def test_older_hops_are_on_the_next_page(viewer: Api) -> None:
    for number in range(25):
        make_message("shop", message_id=f"m-{number}", search_keys={"customer": "77"})
    pages, url = [], "find/?q=77&page_size=10"
    while url:
        _, body = viewer.get(url)
        pages.append([hop["message_id"] for hop in body["hops"]])
        url = body["next"]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert [name for page in reversed(pages) for name in page] == [f"m-{number}" for number in range(25)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "q"),
        ({"q": ""}, "q"),
        ({"q": "1", "before": "x"}, "before"),
        ({"q": "1", "page_size": "101"}, "page_size"),
        ({"q": "1", "cursor": "x"}, "cursor"),
        ({"q": "\0"}, "q"),
    ],
)
def test_a_bad_question_is_400(viewer: Api, query: dict[str, str], field: str) -> None:
    status, body = viewer.get("find/", **query)

    assert (status, body["errors"][0]["field"]) == (400, field)


# --- teams ---------------------------------------------------------------------------


def test_hops_of_other_teams_are_counted_and_not_shown(db: None) -> None:
    """North sends to south, south on to west under the same key: north knows of one hop more, and no word of it."""
    north, south, west = (make_team(name) for name in ("north", "south", "west"))
    a, b, c = make_system("a", owner=north), make_system("b", owner=south), make_system("c-secret", owner=west)
    first = make_message(a, message_id="m-1", search_keys={"order": "4711"})
    make_delivery(first, b)
    make_delivery(first, c)
    second = make_message(b, message_id="m-secret", correlation_id="m-1", search_keys={"order": "4711"})
    make_delivery(second, c, State.DEAD, error="canary")

    seen = ((north, ["m-1"], 1), (south, ["m-1", "m-secret"], 1), (west, ["m-1", "m-secret"], 1))
    for team, expected, hidden in seen:
        api = Api(make_key("viewer", team=team))
        _, body = api.get("find/", q="4711")
        assert [hop["message_id"] for hop in body["hops"]] == expected
        assert body["hidden"] == hidden
    _, body = Api(make_key("viewer", team=north)).get("find/", q="4711")
    assert "canary" not in str(body)
    stranger = Api(make_key("viewer", team=make_team("far")))
    _, body = stranger.get("find/", q="4711")
    assert (body["hops"], body["hidden"]) == ([], 0)
    assert "is not known here" in body["text"]


# --- what it costs -------------------------------------------------------------------


@contextmanager
def queries() -> Iterator[Callable[[], int]]:
    with CaptureQueriesContext(connection) as captured:
        yield lambda: len(captured)


def test_a_trace_of_many_hops_asks_no_more_than_of_few(viewer: Api) -> None:
    """What is followed is bounded, whatever shares the key."""
    for number in range(120):
        message = make_message(
            "shop", message_id=f"m-{number}", correlation_id=f"c-{number}", search_keys={"order": "4711"}
        )
        make_delivery(message, "erp")
    with queries() as count:
        _, body = viewer.get("find/", q="4711")

    assert len(body["hops"]) == 50
    assert body["next"]
    assert count() <= 75


def test_deliveries_of_one_look_have_a_cap(viewer: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_DELIVERIES", 5)
    message = make_message("shop", search_keys={"order": "4711"})
    for number in range(9):
        make_delivery(message, f"s-{number}")
    _, body = viewer.get("find/", q="4711")

    assert len(body["hops"][0]["deliveries"]) == 5
