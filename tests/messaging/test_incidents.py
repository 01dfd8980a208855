"""What the monitor makes of the rows it finds: incidents, families, quiet times and notices, second by second."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from endpoints.models import (
    Breaker,
    EmergencyStop,
    Endpoint,
    Incident,
    Maintenance,
    Notice,
    NoticeTarget,
    System,
)
from messaging import store
from messaging.conf import GONE
from messaging.intake.directory import DIRECTORY
from messaging.models import Message, Process
from messaging.monitor import book, facts, outbox, telling
from messaging.monitor.judgement import Limits
from messaging.monitor.loop import Monitor
from tests.messaging.factories import make_delivery, make_endpoint, make_message, make_system, make_team

pytestmark = pytest.mark.django_db

LIMITS = Limits(late_s=300, dead=5, settle_s=30, reopen_s=3600, gather_s=5)


class Night:
    """The monitor's judgement with a clock of its own: `at(s)` is what it does so many seconds into the night."""

    def __init__(self) -> None:
        self.start = timezone.now().replace(microsecond=0)

    def time(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def at(self, seconds: float) -> None:
        now = self.time(seconds)
        book.update(facts.read(LIMITS, now), LIMITS, now)
        telling.tell(now)

    def passes(self, begin: int, end: int) -> None:
        for second in range(begin, end, 2):
            self.at(second)


@pytest.fixture
def night() -> Night:
    return Night()


@pytest.fixture
def chat() -> NoticeTarget:
    make_endpoint(make_system("chat"), host="chat.test", name="main")
    return NoticeTarget.objects.create(target="chat")


def endpoint(slug: str, **fields: Any) -> Endpoint:
    system_fields = fields.pop("system_fields", {})
    return make_endpoint(make_system(slug, **system_fields), **{"host": f"{slug}.test", "name": "main"} | fields)


def breaks(night: Night, found: Endpoint, second: float = 0) -> None:
    """Open the endpoint's breaker."""
    at = night.time(second)
    values = {
        "state": "open",
        "error_class": "server_error",
        "error": "answered 500",
        "opened_at": at,
        "written_at": at,
    }
    Breaker.objects.update_or_create(endpoint=found, defaults=values)


def heals(night: Night, found: Endpoint, second: float) -> None:
    Breaker.objects.filter(endpoint=found).update(state="closed", written_at=night.time(second))


def is_broken_for(night: Night, found: Endpoint, second: int, broken: int, *, well: int) -> None:
    """Break it for some seconds from one on, and let it be well for some more."""
    breaks(night, found, second)
    night.passes(second, second + broken)
    heals(night, found, second + broken)
    night.passes(second + broken, second + broken + well)


def told() -> list[tuple[str, str]]:
    """Return (kind, to whom) of all that went out or will, digests once."""
    rows = Notice.objects.filter(carrier__isnull=True).order_by("created_at", "id")
    return [(row.payload.get("event", "").removeprefix("incident."), row.told) for row in rows]


def incident(found: Endpoint | None = None) -> Incident:
    rows = Incident.objects.all() if found is None else Incident.objects.filter(endpoint=found)
    return rows.latest("opened_at")


# --- one incident --------------------------------------------------------------


def test_an_open_breaker_is_told_once_and_once_more_when_it_is_over(night: Night, chat: NoticeTarget) -> None:
    """However often the monitor looks."""
    erp = endpoint("erp", system_fields={"contact": "erp-oncall", "runbook_url": "https://runbook.test/erp"})
    breaks(night, erp)
    night.passes(0, 60)
    heals(night, erp, 60)
    night.passes(60, 200)

    assert told() == [("opened", "chat"), ("resolved", "chat")]
    [opened, resolved] = Notice.objects.order_by("created_at")
    assert opened.payload["text"].splitlines()[0] == (
        "OPEN: erp/main keeps failing: the last try failed: server error: answered 500."
    )
    assert {opened.payload[name] for name in ("contact", "runbook")} == {"erp-oncall", "https://runbook.test/erp"}
    assert resolved.payload["text"].startswith("RESOLVED: erp/main, it is well again after 1 min")
    assert incident().resolved_at == night.time(90)


def test_what_comes_back_within_the_settle_time_is_not_told_again(night: Night, chat: NoticeTarget) -> None:
    """It never resolved: the same incident goes on."""
    erp = endpoint("erp")
    for second in range(0, 200, 20):
        is_broken_for(night, erp, second, 10, well=10)

    assert told() == [("opened", "chat")]
    assert incident().causes[0]["times"] == 10


def test_what_comes_back_after_it_was_told_as_resolved_is_the_same_incident(night: Night, chat: NoticeTarget) -> None:
    """It is told as having come back, and from then on has to be well for longer."""
    erp = endpoint("erp")
    for second in (0, 100):
        is_broken_for(night, erp, second, 20, well=80)
    assert told() == [("opened", "chat"), ("resolved", "chat"), ("opened", "chat")]
    night.passes(200, 440)

    assert told()[3:] == [("resolved", "chat")]
    assert (Incident.objects.count(), incident().returns) == (1, 1)
    assert "came back" in Notice.objects.order_by("created_at")[2].payload["text"]


def test_what_is_late_opens_an_incident_and_resolves_by_itself(night: Night, chat: NoticeTarget) -> None:
    erp = endpoint("erp")
    delivery = make_delivery(system=erp.system, state="pending", due_at=night.time(-400))
    night.passes(0, 10)
    delivery.delete()
    night.passes(10, 60)

    assert told() == [("opened", "chat"), ("resolved", "chat")]
    assert incident().causes[0]["cause"] == "late"


def test_what_was_let_go_a_moment_ago_is_not_late(night: Night, chat: NoticeTarget) -> None:
    """After a pause the oldest has waited for an hour, and is on its way: only if it still is later, that is news."""
    erp = endpoint("erp")
    Breaker.objects.create(endpoint=erp, healed_at=night.time(0), written_at=night.time(0))
    make_delivery(system=erp.system, state="pending", due_at=night.time(-3600))
    night.passes(0, 10)
    assert not Incident.objects.exists()
    night.passes(300, 310)

    assert told() == [("opened", "chat")]


def test_many_dead_letters_open_an_incident_until_somebody_sees_to_them(night: Night, chat: NoticeTarget) -> None:
    """Only those of the last ten minutes that nobody resolved; the rollups say where to look."""
    erp = endpoint("erp")
    rows = [make_delivery(system=erp.system, state="dead", finished_at=night.time(-5)) for _ in range(5)]
    minute = night.time(-5).replace(second=0)
    store.add_rollups({(minute, erp.system_id, "dead", "server_error"): (5, 0.0)})
    night.at(0)
    assert [entry["cause"] for entry in incident(erp).causes] == ["dead"]
    type(rows[0]).objects.filter(pk=rows[0].pk).update(resolved_at=night.time(1))
    night.passes(2, 40)

    assert incident(erp).resolved_at is not None


def test_a_410_opens_an_incident_although_its_endpoint_is_paused(night: Night, chat: NoticeTarget) -> None:
    """The engine paused it, not a person: somebody has to hear of it; correcting it resolves."""
    erp = endpoint("erp", state="paused", pause_reason=GONE)
    night.passes(0, 10)
    assert told() == [("opened", "chat")]
    Endpoint.objects.filter(pk=erp.pk).update(state="enabled", pause_reason="")
    night.passes(10, 50)

    assert told()[1:] == [("resolved", "chat")]


@pytest.mark.parametrize("end", ["disabled", "retired", "deleted"])
def test_what_is_taken_out_of_use_is_resolved_at_once(night: Night, chat: NoticeTarget, end: str) -> None:
    """There is nothing to judge any more, and the history says why."""
    erp = endpoint("erp")
    breaks(night, erp)
    night.passes(0, 10)
    if end == "disabled":
        Endpoint.objects.filter(pk=erp.pk).update(state="disabled")
    elif end == "retired":
        System.objects.filter(pk=erp.system_id).update(state="retired")
    else:
        erp.delete()
    night.at(10)

    found = Incident.objects.get()
    assert found.resolved_at == night.time(10)
    assert end.removesuffix("d") in found.facts["ended"] or "removed" in found.facts["ended"]


def test_a_process_that_keeps_dying_is_told_and_so_is_one_that_is_missed(night: Night, chat: NoticeTarget) -> None:
    """Judged by the heartbeats alone, so it works without the process in question."""
    for restarts, second in ((0, -90), (1, -60), (2, -30), (3, -1)):
        Process.objects.create(
            role="deliver",
            host="a",
            pid=restarts,
            restarts=restarts,
            started_at=night.time(second),
            seen_at=night.time(0),
        )
    Process.objects.create(role="web", host="b", pid=9, started_at=night.time(-900), seen_at=night.time(-70))
    night.passes(0, 10)

    assert {row.subject: row.causes[0]["cause"] for row in Incident.objects.all()} == {
        "process:deliver@a": "dying",
        "process:web@b": "silent",
    }
    assert len(told()) == 2


def test_a_process_that_another_one_replaced_is_not_missed(night: Night) -> None:
    """A host that went away while its successor came is no incident."""
    Process.objects.create(role="web", host="old", pid=1, started_at=night.time(-900), seen_at=night.time(-70))
    Process.objects.create(role="web", host="new", pid=1, started_at=night.time(-60), seen_at=night.time(0))
    night.at(0)

    assert not Incident.objects.exists()


# --- quiet ---------------------------------------------------------------------


def hold(night: Night, what: str, found: Endpoint) -> None:
    if what == "endpoint":
        Endpoint.objects.filter(pk=found.pk).update(state="paused")
    elif what == "system":
        System.objects.filter(pk=found.system_id).update(state="paused")
    elif what == "stop":
        EmergencyStop.objects.create(since=night.start, by="test")
    else:
        Maintenance.objects.create(
            system=found.system, starts_at=night.time(-60), ends_at=night.time(3600), created_by="test"
        )


def release(found: Endpoint) -> None:
    Endpoint.objects.filter(pk=found.pk).update(state="enabled")
    System.objects.filter(pk=found.system_id).update(state="active")
    EmergencyStop.objects.all().delete()
    Maintenance.objects.all().delete()


@pytest.mark.parametrize("what", ["endpoint", "system", "stop", "maintenance"])
def test_what_is_paused_or_maintained_is_recorded_and_told_to_nobody(
    night: Night, chat: NoticeTarget, what: str
) -> None:
    """Once the hold ends and it is broken still, one notice goes out; once it is well, one more."""
    erp = endpoint("erp")
    hold(night, what, erp)
    breaks(night, erp)
    night.passes(0, 60)
    assert incident().quiet_because == ("maintenance" if what == "maintenance" else "paused")
    assert told() == []
    release(erp)
    night.passes(60, 88)
    assert told() == []
    night.passes(88, 120)
    assert told() == [("opened", "chat")]
    heals(night, erp, 120)
    night.passes(120, 160)

    assert told() == [("opened", "chat"), ("resolved", "chat")]


def test_what_heals_while_it_is_maintained_resolves_without_a_word(night: Night, chat: NoticeTarget) -> None:
    """The history has it all the same."""
    erp = endpoint("erp")
    hold(night, "maintenance", erp)
    breaks(night, erp)
    night.passes(0, 20)
    heals(night, erp, 20)
    night.passes(20, 60)

    assert incident().resolved_at is not None
    assert told() == []


def test_a_pause_does_not_resolve_what_is_late(night: Night, chat: NoticeTarget) -> None:
    """Nothing is sent to it, so nothing can be late: that is no healing."""
    erp = endpoint("erp")
    make_delivery(system=erp.system, state="pending", due_at=night.time(-400))
    night.passes(0, 10)
    hold(night, "system", erp)
    night.passes(10, 100)

    assert incident().resolved_at is None
    assert told() == [("opened", "chat")]


def test_what_depends_on_a_maintained_system_is_quiet_too(night: Night, chat: NoticeTarget) -> None:
    """The maintenance of the database breaks the shop: nobody is woken for it."""
    shop, database = endpoint("shop"), endpoint("database")
    shop.system.depends_on.add(database.system)
    hold(night, "maintenance", database)
    breaks(night, shop)
    night.passes(0, 20)

    assert incident().quiet_because == "dependency"
    assert told() == []


# --- families ------------------------------------------------------------------


def test_ten_endpoints_of_one_host_are_told_as_one(night: Night, chat: NoticeTarget) -> None:
    """Those that break later join in silence, and the one notice of healing waits for the last of them."""
    doors = [endpoint(f"shop-{number}", host="one.test") for number in range(10)]
    for number, door in enumerate(doors):
        breaks(night, door, number * 4)
        night.passes(number * 4, number * 4 + 4)
    for number, door in enumerate(doors):
        heals(night, door, 100)
        night.passes(100 + number * 40, 140 + number * 40)
    night.passes(500, 560)

    assert told() == [("opened", "chat"), ("resolved", "chat")]
    root = Incident.objects.get(parent__isnull=True)
    assert root.children.count() == 9
    assert Notice.objects.get(kind="resolved").payload["also_count"] == 9


def test_a_parent_that_is_down_speaks_for_what_depends_on_it(night: Night, chat: NoticeTarget) -> None:
    """One notice, of the parent, even though the child broke first; it names the child."""
    shop, erp = endpoint("shop"), endpoint("erp")
    shop.system.depends_on.add(erp.system)
    breaks(night, shop)
    night.at(0)
    breaks(night, erp, 2)
    night.passes(2, 20)

    assert told() == [("opened", "chat")]
    [notice] = Notice.objects.all()
    assert (notice.payload["system"], notice.payload["also"]) == ("erp", ["shop/main"])
    assert incident(shop).parent == incident(erp)


def test_a_child_that_outlives_its_parent_speaks_for_itself(night: Night, chat: NoticeTarget) -> None:
    """After a grace time, in which it may heal, too."""
    shop, erp = endpoint("shop"), endpoint("erp")
    shop.system.depends_on.add(erp.system)
    breaks(night, erp)
    night.passes(0, 10)
    breaks(night, shop, 10)
    night.passes(10, 20)
    heals(night, erp, 20)
    night.passes(20, 108)
    assert told() == [("opened", "chat")]
    night.passes(108, 130)

    opened, *others = told()
    assert opened == ("opened", "chat")
    assert sorted(others) == [("opened", "chat"), ("resolved", "chat")]
    assert incident(shop).parent is None


def test_many_at_once_are_one_digest(night: Night, chat: NoticeTarget) -> None:
    """Twenty that have nothing to do with each other: one notice that lists them, not twenty."""
    for number in range(20):
        breaks(night, endpoint(f"s{number}"))
    night.passes(0, 20)

    assert told() == [("digest", "chat")]
    assert Notice.objects.count() == 20
    payload = Notice.objects.get(carrier__isnull=True).payload
    assert len(payload["incidents"]) == 20
    assert payload["text"].startswith("20 incidents opened.")


def test_one_after_the_other_becomes_a_digest_too(night: Night, chat: NoticeTarget) -> None:
    """At most three notices a minute to one target; what is more waits and goes out together."""
    for number in range(30):
        breaks(night, endpoint(f"s{number}"), number * 2)
        night.at(number * 2)
    night.passes(60, 140)

    assert len(told()) <= 6
    assert Notice.objects.count() == 30
    assert not Incident.objects.filter(told_opened_at__isnull=True).exists()


# --- who is told ---------------------------------------------------------------


def target(slug: str, team: Group | None = None) -> NoticeTarget:
    endpoint(slug)
    return NoticeTarget.objects.create(target=slug, team=team)


def test_a_team_hears_of_its_own_incidents_and_others_of_all(night: Night) -> None:
    blue, red = make_team("blue"), make_team("red")
    target("blue-chat", blue), target("red-chat", red), target("all-chat")
    breaks(night, endpoint("erp", system_fields={"owner": blue}))
    night.passes(0, 20)

    assert sorted(to for _, to in told()) == ["all-chat", "blue-chat"]


def test_a_team_reads_nothing_of_another_teams_systems(night: Night) -> None:
    """The blue parent speaks for the red child: red hears of its own, in its own words."""
    blue, red = make_team("blue"), make_team("red")
    target("blue-chat", blue), target("red-chat", red)
    erp = endpoint("erp", system_fields={"owner": blue})
    shop = endpoint("shop", system_fields={"owner": red})
    shop.system.depends_on.add(erp.system)
    breaks(night, erp)
    breaks(night, shop)
    night.passes(0, 20)

    texts = {row.told: row.payload["text"] for row in Notice.objects.all()}
    assert texts.keys() == {"blue-chat", "red-chat"}
    assert "shop" not in texts["blue-chat"]
    assert "erp" not in texts["red-chat"]


def test_a_broken_chat_hears_of_itself_only_if_nobody_else_does(night: Night, chat: NoticeTarget) -> None:
    other = NoticeTarget.objects.create(email="night@example.com")
    breaks(night, Endpoint.objects.get(system__slug="chat"))
    night.passes(0, 20)
    assert [to for _, to in told()] == ["night@example.com"]
    Incident.objects.all().delete()
    other.delete()
    night.passes(20, 40)

    assert [to for _, to in told()][-1] == "chat"


def test_who_is_named_while_something_is_broken_hears_of_it(night: Night) -> None:
    """An incident that nobody could be told of is told as soon as there is somebody."""
    breaks(night, endpoint("erp"))
    night.passes(0, 20)
    target("chat")
    night.at(20)

    assert told() == [("opened", "chat")]


# --- the way out ---------------------------------------------------------------


def test_a_notice_is_a_message_of_the_control_plane(night: Night, chat: NoticeTarget) -> None:
    """It goes through the ordinary intake, once; its text stands first, so that a chat shows it as it is."""
    breaks(night, endpoint("erp"))
    night.passes(0, 10)
    for _ in range(3):
        outbox.send_messages(night.time(10))

    [message] = Message.objects.all()
    assert (message.source.slug, message.event_type) == ("controlplane", "incident.opened")
    assert bytes(message.payload).startswith(b'{"text":"OPEN: erp/main')
    assert message.deliveries.get().system.slug == "chat"
    assert Notice.objects.get().state == "sent"


def test_a_target_that_refuses_is_an_error_on_its_page_and_tried_again(night: Night, chat: NoticeTarget) -> None:
    """Once it accepts, the notice goes out; one that never does is given up."""
    System.objects.filter(slug="chat").update(accepts_from=["erp"])
    breaks(night, endpoint("erp"))
    night.passes(0, 10)
    outbox.send_messages(night.time(10))
    refused = Notice.objects.get()
    assert (refused.state, refused.tries) == ("pending", 1)
    assert "does not accept messages from controlplane" in refused.error
    System.objects.filter(slug="chat").update(accepts_from=["controlplane"])
    DIRECTORY.forget()
    outbox.send_messages(night.time(100))

    assert Notice.objects.get().state == "sent"


def test_a_notice_that_nobody_takes_is_given_up(night: Night, chat: NoticeTarget) -> None:
    System.objects.filter(slug="chat").update(accepts_from=["erp"])
    breaks(night, endpoint("erp"))
    night.passes(0, 10)
    for tries in range(10):
        outbox.send_messages(night.time(10_000 * (tries + 1)))

    assert Notice.objects.get().state == "failed"
    assert Notice.objects.get().tries == len(outbox.RETRY_S) + 1


# --- cost ----------------------------------------------------------------------


def test_an_idle_look_is_a_few_cheap_questions(chat: NoticeTarget) -> None:
    """Every two seconds, for ever: four statements, and some more every ten seconds."""
    make_message()
    monitor = Monitor(LIMITS)
    with CaptureQueriesContext(
        connection,
    ) as first:
        monitor.look()
    with CaptureQueriesContext(connection) as second:
        monitor.look()

    assert len(first) <= 12
    assert len(second) <= 4


# --- what comes back, and what is told by another one ----------------------------


def test_what_came_back_is_told_as_broken_since_it_did(night: Night, chat: NoticeTarget) -> None:
    """Not since it opened for the first time: in between it was well, and everyone was told so."""
    erp = endpoint("erp")
    for second in (0, 1200):
        is_broken_for(night, erp, second, 20, well=420)

    _, first, opened, resolved = Notice.objects.order_by("created_at")
    assert (first.payload["lasted_s"], resolved.payload["lasted_s"]) == (50, 320)
    assert opened.payload["since"] == night.time(1200).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"Since {night.time(1200):%H:%M} UTC" in opened.payload["text"]
    assert opened.payload["lasted_s"] < 20
    assert "after 5 min" in resolved.payload["text"]
    assert incident().opened_at == night.time(0)


def test_what_broke_again_while_its_family_was_still_broken_goes_on(night: Night, chat: NoticeTarget) -> None:
    """Nobody was told that it was well, so the one notice of healing counts from the one notice of opening."""
    erp, shop = endpoint("erp", host="one.test"), endpoint("shop", host="one.test")
    breaks(night, erp), breaks(night, shop)
    night.passes(0, 20)
    head, other = (erp, shop) if incident(shop).parent_id else (shop, erp)
    heals(night, head, 20)
    night.passes(20, 100)
    breaks(night, head, 100)
    night.passes(100, 110)
    heals(night, head, 110), heals(night, other, 110)
    night.passes(110, 460)

    assert told() == [("opened", "chat"), ("resolved", "chat")]
    assert incident(head).returns == 1
    assert Notice.objects.get(kind="resolved").payload["lasted_s"] == 410


def test_only_what_came_back_is_told_as_healed_again(night: Night) -> None:
    """Not what had stood behind it the first time and stayed well, and only to who heard that it came back."""
    red = make_team("red")
    target("red-chat", red), target("all-chat")
    erp = endpoint("erp")
    shop = endpoint("shop", system_fields={"owner": red})
    shop.system.depends_on.add(erp.system)
    breaks(night, erp), breaks(night, shop)
    night.passes(0, 20)
    heals(night, erp, 20), heals(night, shop, 20)
    night.passes(20, 100)
    breaks(night, erp, 100)
    night.passes(100, 120)
    heals(night, erp, 120)
    night.passes(120, 480)

    heard = Notice.objects.filter(kind="resolved").order_by("created_at", "told")
    assert [(row.round, row.told, row.payload["also"]) for row in heard] == [
        (0, "all-chat", ["shop/main"]),
        (0, "red-chat", ["shop/main"]),
        (1, "all-chat", []),
    ]
