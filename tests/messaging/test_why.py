"""Why: what is said of each state that rows can be in, to whom, and that it costs the same whatever waits."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from endpoints.models import EmergencyStop, Maintenance
from messaging.models import Reason, State
from messaging.services.why import counting, marks, rows
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

MOST_QUERIES = 20


def ago(**span: float) -> Any:
    return timezone.now() - timedelta(**span)


def erp(**fields: Any) -> Any:
    known = {"contact": "erp@example.test", "runbook_url": "https://run.test/erp", "owner": make_team("Team ERP")}
    system = make_system("erp", **(known | fields))
    if not system.endpoints.exists():
        make_endpoint(system, interface="orders")
    return system


def owed(state: State = State.PENDING, **fields: Any) -> Any:
    """Return a delivery of an hour ago from webshop to erp/orders."""
    message = make_message(make_system("webshop"), created_at=ago(hours=1), search_keys={"order": "4711"})
    if state == State.PENDING:
        fields = {"due_at": timezone.now() + timedelta(hours=1), "reason": Reason.RETRYING, **fields}
    return make_delivery(message, erp(), state, **({"interface": "orders"} | fields))


def why(api: Api, delivery: Any) -> dict[str, Any]:
    status, body = api.get(f"deliveries/{delivery.pk}/why/")
    assert status == 200, body
    return dict(body)


def failed(delivery: Any, times: int, body: bytes = b"deadlock detected") -> None:
    for _ in range(times):
        make_attempt(
            delivery,
            outcome="retry",
            status_code=500,
            error_class="server_error",
            error="answered 500",
            response_body=body,
        )


def test_the_sentence_says_all_of_it(admin: Api) -> None:
    """What, since when, what was answered and how often, who else, when next, whose it is, and what to do."""
    delivery = owed(attempts=9)
    failed(delivery, 9)
    for _ in range(3):
        owed()
    answer = why(admin, delivery)

    since = marks.plain(marks.at(delivery.created_at), timezone.now())
    due = marks.plain(marks.at(delivery.due_at), timezone.now())
    assert answer["text"] == (
        f"webshop -> erp/orders, waiting since {since}, tried nine times in vain; erp: it answered 500 nine times, last"
        f" 'deadlock detected'; 3 others wait for the same reason; next try {due} (in 59 min); owner of erp: Team ERP,"
        " contact erp@example.test, runbook https://run.test/erp."
    )
    facts = answer["facts"]
    assert facts["answers"] == [{"outcome": "retry", "status_code": 500, "error_class": "server_error", "times": 9}]
    assert (facts["others"], facts["attempts"]) == ({"count": 3, "at_least": False}, 9)
    assert facts["owner"]["runbook_url"] == "https://run.test/erp"
    cancel = next(action for action in answer["actions"] if action["name"] == "cancel")
    assert (cancel["method"], cancel["path"]) == ("POST", f"/api/v1/deliveries/{delivery.pk}/cancel/")
    assert cancel["url"] == f"/admin/messaging/message/{delivery.message_id}/change/#{delivery.pk}"


def test_a_maintenance_says_until_when(admin: Api) -> None:
    ends_at = timezone.now() + timedelta(hours=2)
    Maintenance.objects.create(
        system=erp(), starts_at=ago(minutes=30), ends_at=ends_at, reason="new disks", created_by="user:anna"
    )
    answer = why(admin, owed(reason=Reason.MAINTENANCE))

    assert "erp is under maintenance since " in answer["text"]
    assert "by user:anna, 'new disks'; no other waits for the same reason; until " in answer["text"]
    assert answer["facts"]["next_try_at"].startswith(ends_at.isoformat()[:19])


def test_what_a_hold_adds_to_another_reason_is_said_besides(admin: Api) -> None:
    """A retry that is due in an hour is not tried then if everything is paused."""
    EmergencyStop.objects.create(since=ago(minutes=5), by="user:ben", reason="wrong prices")
    answer = why(admin, owed())

    assert "; besides, everything is paused since " in answer["text"]
    assert " by user:ben, 'wrong prices'; " in answer["text"]
    assert "; until somebody resumes it; " in answer["text"]
    assert answer["facts"]["next_try_at"] is None
    assert "resume_all" in [action["name"] for action in answer["actions"]]


@pytest.mark.parametrize(
    ("state", "fields", "said"),
    [
        (State.PENDING, {"reason": Reason.NO_CLIENT}, "no client of erp/orders is connected"),
        (State.SKIPPED, {"reason": Reason.FILTERED}, "not sent: a filter on its way left it out"),
        (State.SKIPPED, {"reason": Reason.RETIRED}, "not sent: erp was retired"),
        (State.DEAD, {"reason": Reason.EXHAUSTED, "error_class": "throttled"}, "asked us to slow down for too long"),
        (State.DEAD, {"resolved_at": timezone.now()}, "; resolved "),
        (State.DELIVERED, {"ack_level": "written"}, "written, and not acknowledged"),
        (State.CANCELLED, {}, "by an operator, without a try"),
    ],
)
def test_what_only_rows_can_show_yet_is_said(admin: Api, state: State, fields: dict[str, Any], said: str) -> None:
    assert said in why(admin, owed(state, **fields))["text"]


def test_every_reason_has_a_row(admin: Api) -> None:
    """As design has them: a new one without a row would be said in general words only."""
    assert set(rows.PENDING) == {
        *("new", "retrying", "paused", "maintenance", "breaker", "throttled", "rate_limited", "blocked", "scheduled"),
        "no_client",
    }
    assert set(rows.DEAD) == {"refused", "exhausted", "poison", "address", "transform"}
    assert set(rows.SKIPPED) == {"disabled", "filtered", "retired"}


def test_a_door_without_an_endpoint_says_so(admin: Api) -> None:
    delivery = owed(reason=Reason.NEW, due_at=ago(minutes=1))
    delivery.system.endpoints.all().delete()
    answer = why(admin, delivery)

    assert "besides, erp/orders has no endpoint to deliver to; " in answer["text"]
    assert answer["actions"][0]["name"] == "register_endpoint"


def test_what_others_said_stays_what_they_said(admin: Api) -> None:
    """On one line, cut, and with nothing in it that could pass for a time or a mark of ours."""
    delivery = owed(attempts=1)
    failed(delivery, 1, body=b"line one\n\x1f2026-01-01\x1f \x1b[31mred " + b"x" * 500)
    text = why(admin, delivery)["text"]

    assert "last 'line one 2026-01-01 [31mred xxxx" in text
    assert not {"\n", "\x1f", "\x1b"} & set(text)
    assert len(text) < 700


# --- who may know what ---------------------------------------------------------------


def test_a_viewer_is_told_no_body_and_nothing_to_do(viewer: Api) -> None:
    """What a receiver answered is a payload; what cannot be done is not offered."""
    delivery = owed(attempts=1)
    failed(delivery, 1)
    answer = why(viewer, delivery)

    assert "deadlock" not in str(answer)
    assert "last 'answered 500'" in answer["text"]
    assert {action["method"] for action in answer["actions"]} <= {"GET"}


def test_the_sender_knows_whose_it_is_and_nothing_of_how_they_work(db: None) -> None:
    """A receiver of another team: its team by name; no contact, runbook, pause reason or endpoint."""
    owner = make_team("Team shop")
    make_system("webshop", owner=owner)
    delivery = owed(reason=Reason.PAUSED)
    system = delivery.system
    system.state, system.pause_reason = "paused", "canary"
    system.save()
    own = Api(make_key("operator", team=make_team("Team ERP")))
    sender = Api(make_key("operator", team=owner))
    stranger = Api(make_key("admin", team=make_team("far")))

    assert "'canary'" in why(own, delivery)["text"]
    answer = why(sender, delivery)
    assert "erp is paused" in answer["text"]
    assert answer["text"].endswith("owner of erp: Team ERP.")
    assert not any(word in str(answer) for word in ("canary", "erp@example.test", "run.test", "systems/erp/"))
    assert stranger.get(f"deliveries/{delivery.pk}/why/")[0] == 404


def test_the_sender_learns_neither_the_rate_nor_who_acted(db: None) -> None:
    """Who cancelled a delivery, or sent it again, and how fast its receiver may be sent to, is its owner's to know."""
    make_system("webshop", owner=make_team("Team shop"))
    limited, cancelled, resent = owed(reason=Reason.RATE_LIMITED), owed(), owed()
    limited.system.endpoints.update(rate_per_s=7.5)
    own, sender = (Api(make_key("operator", team=make_team(name))) for name in ("Team ERP", "Team shop"))
    assert own.post(f"deliveries/{cancelled.pk}/cancel/")[0] == own.post(f"deliveries/{resent.pk}/cancel/")[0] == 202
    assert own.post(f"deliveries/{resent.pk}/resend/")[0] == 202

    assert "(7.5 a second)" in why(own, limited)["text"]
    assert "a second)" not in why(sender, limited)["text"]
    for delivery in (cancelled, resent):
        assert why(own, delivery)["facts"]["by"].startswith("key:")
        assert why(sender, delivery)["facts"]["by"] is None
        assert "key:" not in str(why(sender, delivery))
    assert "cancelled" in why(sender, cancelled)["text"]


def test_a_head_of_another_team_is_not_named(db: None) -> None:
    """Two teams send under one ordering key: who waits learns that somebody is before it, not who."""
    line = {"interface": "orders", "ordering_key": "k"}
    message = make_message(make_system("rival", owner=make_team("Team rival")), message_id="m-canary")
    head = make_delivery(message, erp(), State.PENDING, reason=Reason.RETRYING, error="canary", **line)
    shop = make_system("webshop", owner=make_team("Team shop"))
    waiting = make_delivery(make_message(shop), erp(), State.PENDING, reason=Reason.BLOCKED, **line)
    answer = why(Api(make_key("operator", team=make_team("Team shop"))), waiting)

    assert "behind a delivery of another team of key 'k', retrying since " in answer["text"]
    assert not any(word in str(answer) for word in ("canary", str(head.pk)))
    assert [action["name"] for action in answer["actions"]] == ["cancel"]


def test_others_are_counted_as_far_as_one_may_see(db: None) -> None:
    """A sender learns how many of its own wait, not how long another team's queue is."""
    make_system("webshop", owner=make_team("Team shop"))
    first, _ = owed(), owed()
    for _ in range(3):
        message = make_message(make_system("rival", owner=make_team("Team rival")))
        make_delivery(message, erp(), State.PENDING, reason=Reason.RETRYING, interface="orders")

    assert why(Api(make_key("viewer", team=make_team("Team ERP"))), first)["facts"]["others"]["count"] == 4
    assert why(Api(make_key("viewer", team=make_team("Team shop"))), first)["facts"]["others"]["count"] == 1


# --- messages ------------------------------------------------------------------------


def test_a_message_says_the_worst_of_its_deliveries_and_the_others_beside(viewer: Api) -> None:
    message = make_message("webshop", message_id="m-1")
    make_delivery(message, "crm")
    dead = make_delivery(message, "billing", State.DEAD, reason=Reason.REFUSED)
    status, body = viewer.get("messages/m-1/why/")

    assert (status, body["state"], body["facts"]["delivery"]) == (200, "dead", str(dead.pk))
    assert body["text"].startswith("webshop -> billing, dead since ")
    assert " Also webshop -> crm, delivered " in body["text"]
    assert viewer.get("messages/none/why/")[0] == 404


def test_several_matches_of_a_key_are_a_line_each_and_the_newest_unsettled_in_full(
    db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Newest first; what arrived is no question."""
    owed()
    newest = owed()
    owed(State.DELIVERED)
    call_command("why", "order=4711")
    lines = capsys.readouterr().out.splitlines()

    assert [line[:27] for line in lines[:3]] == [
        "* webshop -> erp/orders, de",
        "* webshop -> erp/orders, wa",
        "* webshop -> erp/orders, wa",
    ]
    assert lines[3] == ""
    assert lines[4].startswith("webshop -> erp/orders, waiting since")
    assert f"{newest.message_id}/change/#{newest.pk}" in "\n".join(lines[5:])


# --- what it costs -------------------------------------------------------------------


@pytest.mark.parametrize("reason", [Reason.RETRYING, Reason.PAUSED, Reason.BLOCKED, Reason.BREAKER])
def test_it_asks_a_bounded_number_of_queries(admin: Api, reason: Reason) -> None:
    delivery = owed(reason=reason, attempts=3, ordering_key="k" if reason == Reason.BLOCKED else "")
    failed(delivery, 3)
    for _ in range(30):
        owed(reason=reason)
    with CaptureQueriesContext(connection) as captured:
        why(admin, delivery)

    assert len(captured) <= MOST_QUERIES


def test_a_count_has_an_end(admin: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, it says that there are more."""
    monkeypatch.setattr(counting, "MOST_COUNTED", 4)
    first = owed()
    for _ in range(9):
        owed()
    dead = owed(State.DEAD)
    for _ in range(9):
        owed(State.DEAD)

    assert "; 4+ others wait for the same reason; " in why(admin, first)["text"]
    assert "; 4+ others are dead for the same reason; " in why(admin, dead)["text"]


# --- what to do ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State.PENDING, {}),
        (State.PENDING, {"reason": Reason.PAUSED}),
        (State.PENDING, {"reason": Reason.MAINTENANCE}),
        (State.DEAD, {"reason": Reason.POISON}),
        (State.SKIPPED, {}),
        (State.DELIVERED, {}),
    ],
)
def test_each_action_leads_somewhere(admin: Api, state: State, fields: dict[str, Any]) -> None:
    """Its request and its page exist, and its job is one that may be made."""
    EmergencyStop.objects.create(since=ago(minutes=5), by="user:ben")
    Maintenance.objects.create(system=erp(), starts_at=ago(minutes=5), ends_at=timezone.now() + timedelta(hours=1))
    erp().endpoints.update(state="disabled" if state == State.SKIPPED else "paused")
    delivery = owed(state, **fields)
    owed(state, **fields)
    actions = why(admin, delivery)["actions"]

    assert actions
    for action in actions:
        for address in (action["path"], action["url"]):
            if address:
                resolve(address.partition("?")[0].partition("#")[0])
        if action["path"] == "/api/v1/jobs/":
            status, body = admin.post("jobs/", {**action["body"], "dry_run": True})
            assert (status, body["count"] > 0) == (200, True), body
