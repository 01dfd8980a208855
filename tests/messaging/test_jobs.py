"""Jobs: what a filter finds, done once each, paced, steered and on the record."""

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from endpoints.models import AuditEntry
from messaging import moves, store
from messaging.jobs import selection
from messaging.jobs.runner import Runner
from messaging.models import DeadGroup, Delivery, Job, Message, Reason, State, Trigger
from tests.messaging.api_client import Api
from tests.messaging.dying import die, leased, make_receiver
from tests.messaging.factories import (
    make_attempt,
    make_delivery,
    make_endpoint,
    make_key,
    make_message,
    make_system,
    make_team,
)
from tests.stack import wait_for

pytestmark = pytest.mark.django_db


def work() -> None:
    """Work until there is nothing to do at once."""
    runner = Runner()
    while runner.step() == 0:
        pass


def dead(count: int, **fields: Any) -> list[Delivery]:
    return [make_delivery(state=State.DEAD, **fields) for _ in range(count)]


def test_redrive_sends_each_that_the_filter_finds_again(operator: Api) -> None:
    """They wait anew, with a fresh budget; what the filter does not find stays as it is."""
    make_endpoint(make_system("crm"), max_attempts=7)
    chosen = dead(3, attempts=10, error_class="timeout")
    other = dead(1, error_class="auth")[0]
    status, job = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead", "error_class": "timeout"}})
    assert (status, job["state"], job["total"], job["done"]) == (202, "running", 3, 0)

    work()

    rows = Delivery.objects.filter(pk__in=[one.pk for one in chosen])
    assert {(row.state, row.reason, row.trigger, row.max_attempts) for row in rows} == {
        (State.PENDING, Reason.NEW, Trigger.REDRIVE, 17)
    }
    other.refresh_from_db()
    assert other.state == State.DEAD
    status, job = operator.get(f"jobs/{job['id']}/")
    assert (status, job["state"], job["done"], job["passed_over"], job["percent"]) == (200, "done", 3, 0, 100.0)
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"job_create", "job_done"}


def test_purge_deletes_what_has_ended_and_the_books_balance(operator: Api) -> None:
    gone, kept = make_delivery(state=State.EXPIRED), make_delivery(state=State.PENDING)
    make_attempt(gone)
    operator.post("jobs/", {"action": "purge", "filter": {}, "all": True})
    work()

    assert list(Delivery.objects.all()) == [kept]
    span = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-03T00:00:00Z"}
    ledger = operator.get("ledger/", **span)[1]
    assert (ledger["expected"], ledger["purged"], ledger["balanced"]) == (2, 1, True)
    assert Job.objects.get().done == 1
    assert not type(gone.message).objects.filter(pk=gone.message_id).exists()


def test_replay_sends_a_new_message_to_those_found(operator: Api) -> None:
    make_endpoint(make_system("crm"))
    old = make_delivery(make_message(targets=["crm", "erp"], correlation_id=""), state=State.DEAD)
    make_delivery(old.message, "erp")
    operator.post("jobs/", {"action": "replay", "filter": {"system": "crm"}})
    work()

    new = Delivery.objects.exclude(message=old.message).select_related("message", "system").get()
    assert (new.system.slug, new.state, new.message.correlation_id) == ("crm", "pending", old.message.message_id)
    assert new.message.message_id != old.message.message_id


def states(*deliveries: Delivery) -> list[str]:
    return [Delivery.objects.get(pk=delivery.pk).state for delivery in deliveries]


def test_what_is_asked_for_twice_is_one_job(operator: Api) -> None:
    """A double click, another order of the filters, a colleague who wants the same: one job, while it is open."""
    dead(2)
    wish = {"action": "redrive", "filter": {"state": ["dead", "expired"], "system": "crm"}}
    same = {"action": "redrive", "filter": {"system": ["crm"], "state": "expired,dead"}, "rate_per_s": 5}
    first, again = operator.post("jobs/", wish), Api(make_key("operator")).post("jobs/", same)
    work()
    after = operator.post("jobs/", wish)

    assert (first[0], again[0], after[0]) == (202, 200, 202)
    assert first[1]["id"] == again[1]["id"] != after[1]["id"]
    assert Job.objects.count() == 2


def test_two_jobs_over_the_same_rows_do_each_once(operator: Api) -> None:
    """Whoever comes second finds nothing left to do, and says so."""
    dead(3, error_class="timeout")
    one = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}})[1]
    two = operator.post("jobs/", {"action": "redrive", "filter": {"error_class": "timeout"}})[1]
    work()

    done = [operator.get(f"jobs/{job['id']}/")[1] for job in (one, two)]
    assert sorted((job["done"], job["passed_over"]) for job in done) == [(0, 3), (3, 0)]


def test_what_died_after_the_job_was_made_is_left_alone(operator: Api) -> None:
    old, again = dead(2)
    operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}})
    Delivery.objects.filter(pk=again.pk).update(finished_at=timezone.now() + timedelta(seconds=5))
    work()

    assert states(old, again) == [State.PENDING, State.DEAD]


def test_a_dry_run_counts_names_examples_and_makes_nothing(operator: Api) -> None:
    dead(7)
    make_delivery(state=State.DELIVERED)
    status, found = operator.post("jobs/", {"action": "redrive", "filter": {"system": "crm"}, "dry_run": True})

    assert (status, found["count"], found["is_exact"], found["states"]) == (200, 7, True, {"dead": 7})
    assert [example["state"] for example in found["examples"]] == ["dead"] * 5
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"action": "redrive", "filter": {}}, "filter"),
        ({"action": "redrive", "filter": {"sate": "dead"}}, "sate"),
        ({"action": "redrive", "filter": {"state": "deed"}}, "state"),
        ({"action": "redrive", "filter": {"state": 7}}, "state"),
        ({"action": "redrive", "filter": {"dead_group": "x"}}, "dead_group"),
        ({"action": "explode", "filter": {"state": "dead"}}, "action"),
        ({"action": "index", "filter": {"state": "dead"}}, "action"),
        ({"action": "redrive", "filter": {"state": "dead"}, "rate_per_s": 0}, "rate_per_s"),
        ({"action": "redrive", "filter": {"state": "dead"}, "rate": 5}, "rate"),
        ({"action": "redrive", "filter": ["dead"]}, "filter"),
    ],
)
def test_a_wish_that_is_unclear_is_refused_by_field(operator: Api, wish: Any, field: str) -> None:
    """An empty filter would mean every delivery there is: that has to be said."""
    status, problem = operator.post("jobs/", wish)

    assert (status, problem["errors"][0]["field"]) == (400, field)
    assert not Job.objects.exists()


def test_what_no_index_answers_is_counted_within_a_bounded_look(operator: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it says at least how many; the job itself counts them, and does it to all."""
    monkeypatch.setattr(selection, "LOOK", 3)
    dead(3, priority=2)
    dead(4, priority=1)
    asked = {"action": "redrive", "filter": {"state": "dead", "priority": "normal"}}
    found = operator.post("jobs/", asked | {"dry_run": True})[1]
    indexed = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}, "dry_run": True})[1]
    made = operator.post("jobs/", asked)[1]
    work()
    done = operator.get(f"jobs/{made['id']}/")[1]

    assert (indexed["count"], indexed["is_exact"]) == (7, True)
    assert (found["count"] < 4, found["is_exact"], made["total"]) == (True, False, None)
    assert (done["state"], done["total"], done["done"]) == ("done", 4, 4)


def test_viewers_look_and_operators_work_jobs(operator: Api, viewer: Api) -> None:
    dead(1)
    wish = {"action": "redrive", "filter": {"state": "dead"}}
    assert viewer.post("jobs/", wish)[0] == 403
    job = operator.post("jobs/", wish)[1]

    assert viewer.results("jobs/", action="redrive", state="running")[0]["id"] == job["id"]
    assert {viewer.post(f"jobs/{job['id']}/{step}/")[0] for step in ("pause", "resume", "cancel")} == {403}


def test_a_job_goes_over_what_its_maker_sees_and_only_its_team_sees_it(operator: Api) -> None:
    red, blue = make_team("red"), make_team("blue")
    theirs = make_delivery(
        make_message(make_system("blue-shop", owner=blue)), make_system("crm", owner=blue), State.DEAD
    )
    own = make_delivery(make_message(make_system("shop", owner=red)), make_system("erp", owner=red), State.DEAD)
    maker, other = Api(make_key("operator", team=red)), Api(make_key("operator", team=blue))
    job = maker.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}})[1]
    assert (job["total"], other.get(f"jobs/{job['id']}/")[0], other.results("jobs/")) == (1, 404, [])
    assert other.post(f"jobs/{job['id']}/cancel/")[0] == 404
    work()

    assert states(own, theirs) == [State.PENDING, State.DEAD]
    assert [maker.get(f"jobs/{job['id']}/")[0], operator.get(f"jobs/{job['id']}/")[0]] == [200, 200]


def test_a_replay_by_a_bound_key_is_of_what_its_system_sent(operator: Api) -> None:
    """A replay makes new messages, and such a key speaks only as its own system."""
    shop, billing = make_system("shop"), make_system("billing")
    make_delivery(make_message(shop), state=State.DEAD)
    make_delivery(make_message(billing), state=State.DEAD)
    bound = Api(make_key("operator", system=shop))
    refused = bound.post("jobs/", {"action": "replay", "filter": {"source_system": "billing"}})
    job = bound.post("jobs/", {"action": "replay", "filter": {"state": "dead"}})[1]

    assert (refused[0], refused[1]["code"]) == (403, "wrong_source")
    assert (job["filter"]["source_system"], job["total"]) == (["shop"], 1)


def test_a_paused_job_does_nothing_and_goes_on_where_it_was(operator: Api) -> None:
    one, two = dead(2)
    job = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}, "rate_per_s": 0.1})[1]
    work()
    assert states(one, two) == [State.PENDING, State.DEAD]
    paused = operator.post(f"jobs/{job['id']}/pause/")[1]
    Job.objects.update(next_at=store.now())
    work()
    assert (paused["state"], states(two)) == ("paused", [State.DEAD])
    assert operator.post(f"jobs/{job['id']}/pause/")[0] == 409
    assert (
        operator.client.patch(f"/api/v1/jobs/{job['id']}/", {"rate_per_s": None}, "application/json").status_code == 200
    )
    operator.post(f"jobs/{job['id']}/resume/")
    work()

    ended = operator.get(f"jobs/{job['id']}/")[1]
    assert (ended["state"], ended["done"], states(one, two)) == ("done", 2, [State.PENDING, State.PENDING])
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["job_create", "job_pause", "job_rate", "job_resume", "job_done"]


def test_runners_that_take_turns_go_on_where_the_other_was(operator: Api) -> None:
    """What one saw ahead is behind the place after the other had its turn: it looks again, and does nothing twice."""
    dead(9)
    job = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}, "rate_per_s": 5})[1]
    runners = [Runner(), Runner()]
    for turn in range(9):
        runners[turn % 2].step()
        Job.objects.update(next_at=store.now())
    runners[0].step()

    ended = operator.get(f"jobs/{job['id']}/")[1]
    assert (ended["state"], ended["done"], ended["passed_over"]) == ("done", 9, 0)


def test_what_moved_on_since_it_was_seen_is_passed_over(operator: Api) -> None:
    """A person sends one again while a slow job has it in sight: it goes once, and the job says so."""
    rows = dead(3)
    job = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}, "rate_per_s": 0.7})[1]
    runner = Runner()
    runner.step()
    assert operator.post(f"deliveries/{rows[1].pk}/resend/")[0] == 202
    for _ in range(4):
        Job.objects.update(next_at=store.now())
        runner.step()

    ended = operator.get(f"jobs/{job['id']}/")[1]
    assert (ended["state"], ended["done"], ended["passed_over"]) == ("done", 2, 1)
    triggers = [Delivery.objects.get(pk=row.pk).trigger for row in rows]
    assert triggers == [Trigger.REDRIVE, Trigger.MANUAL, Trigger.REDRIVE]


def test_a_job_on_messages_is_shown_and_worked_like_any_other(operator: Api) -> None:
    """Search keys are indexed by the same runner, though no filter of deliveries finds what they are looked for in."""
    now = store.now()
    own = {"action": "index", "filter": {"source_system": ["shop"]}, "fingerprint": "f", "created_by": "user:anna"}
    Job.objects.create(**own, upto=1, created_at=now, next_at=now)
    work()

    assert [(job["action"], job["state"]) for job in operator.results("jobs/")] == [("index", "done")]


def test_a_cancelled_job_leaves_the_rest(operator: Api) -> None:
    dead(2)
    job = operator.post("jobs/", {"action": "redrive", "filter": {"state": "dead"}})[1]
    cancelled = operator.post(f"jobs/{job['id']}/cancel/")[1]
    work()

    assert (cancelled["state"], cancelled["done"]) == ("cancelled", 0)
    assert Delivery.objects.filter(state=State.DEAD).count() == 2
    assert operator.post(f"jobs/{job['id']}/resume/")[0] == 409


def test_retry_now_makes_retries_due_and_holds_what_is_held(operator: Api) -> None:
    later = timezone.now() + timedelta(hours=1)
    waiting = {reason: make_delivery(state=State.PENDING, reason=reason, due_at=later) for reason in Reason.values[:10]}
    operator.post("jobs/", {"action": "retry_now", "filter": {"system": "crm"}})
    work()

    due = {delivery.reason for delivery in Delivery.objects.filter(due_at__lte=timezone.now() + timedelta(seconds=1))}
    assert due == {"retrying", "breaker", "throttled", "rate_limited", "no_client"}
    assert set(Delivery.objects.values_list("reason", flat=True)) == set(waiting)


def test_cancel_ends_what_waits_and_lets_the_next_of_its_key_go(operator: Api) -> None:
    head = make_delivery(state=State.PENDING, reason=Reason.RETRYING, ordering_key="k", error_class="timeout")
    behind = make_delivery(state=State.PENDING, reason=Reason.BLOCKED, ordering_key="k")
    make_endpoint(head.system)
    operator.post("jobs/", {"action": "cancel", "filter": {"error_class": "timeout"}})
    work()

    assert states(head, behind) == [State.CANCELLED, State.PENDING]
    behind.refresh_from_db()
    assert (behind.reason, behind.holds) == (Reason.NEW, True)


@pytest.mark.parametrize(("action", "left"), [("resolve", 1), ("redrive", 1), ("purge", 1)])
def test_dead_letters_that_leave_their_group_are_no_longer_counted(operator: Api, action: str, left: int) -> None:
    now, system = timezone.now(), make_system("crm")
    group = DeadGroup.objects.create(system=system, interface="main", digest="d", count=3, first_at=now, last_at=now)
    dead(2, group=group, error_class="timeout")
    other = dead(1, group=group)[0]
    wish = {"action": action, "filter": {"dead_group": str(group.pk), "error_class": "timeout"}}
    assert operator.post("jobs/", wish)[1]["total"] == 2
    work()

    group.refresh_from_db()
    assert (group.count, states(other)) == (left, [State.DEAD])
    assert operator.post("jobs/", {"action": action, "filter": {"dead_group": str(group.pk)}})[1]["total"] == 1


def test_a_replay_reaches_whom_the_registry_names_today(operator: Api) -> None:
    """A broadcast goes to those who take one now; who came later is among them."""
    make_endpoint(make_system("crm", accepts_broadcast=True))
    old = make_delivery(make_message(targets=["*"], correlation_id="c-1", headers={"a": "b"})).message
    make_endpoint(make_system("late", accepts_broadcast=True))
    status, answer = operator.post(f"messages/{old.message_id}/replay/")

    assert (status, answer["status"], answer["deliveries"]) == (202, "accepted", 2)
    new = Message.objects.get(message_id=answer["message_id"])
    assert (bytes(new.payload), new.headers, new.correlation_id, new.source_id) == (
        bytes(old.payload),
        {"a": "b"},
        "c-1",
        old.source_id,
    )
    assert set(new.deliveries.values_list("system__slug", flat=True)) == {"crm", "late"}
    assert AuditEntry.objects.get().changes == {"sent_as": [None, new.message_id]}


def test_a_replay_that_the_registry_refuses_today_is_passed_over(operator: Api) -> None:
    """The door is gone: the one says so, the job goes on with the others."""
    make_endpoint(make_system("erp"))
    gone, kept = (make_delivery(make_message(targets=[slug]), slug) for slug in ("crm", "erp"))
    assert operator.post(f"messages/{gone.message.message_id}/replay/")[1]["code"] == "unknown_system"
    job = operator.post("jobs/", {"action": "replay", "filter": {"state": "delivered"}})[1]
    work()

    ended = operator.get(f"jobs/{job['id']}/")[1]
    assert (ended["state"], ended["done"], ended["passed_over"]) == ("done", 1, 1)
    assert Message.objects.exclude(pk__in=[gone.message_id, kept.message_id]).get().targets == ["erp/main"]


def test_a_payload_that_retention_took_is_not_replayed(operator: Api) -> None:
    message = make_delivery(make_message(payload=None)).message
    assert operator.post(f"messages/{message.message_id}/replay/")[1]["code"] == "payload_removed"
    assert operator.post("jobs/", {"action": "replay", "filter": {"state": "delivered"}})[1]["total"] == 0


def command(*words: str) -> str:
    out = StringIO()
    call_command("jobs", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_names_the_actions_as_they_are_written(db: None) -> None:
    """What is refused is answered with words that can be typed."""
    with pytest.raises(CommandError, match=r"choose from '?retry_now'?, '?redrive'?,"):
        command("create", "everything", "--filter", "state=dead")


def test_the_command_makes_lists_and_steers(db: None) -> None:
    dead(3)
    assert command("create", "redrive", "--filter", "state=dead", "system=crm", "--dry-run").startswith("3 deliveries")
    made = orjson.loads(command("create", "redrive", "--filter", "state=dead", "--rate", "0.1", "--json"))
    work()
    assert "1 of 3" in command("list")
    assert [command(step, made["id"]).split()[2] for step in ("pause", "resume", "cancel")] == [
        "paused",
        "running",
        "cancelled",
    ]
    for words in (("create", "redrive"), ("create", "redrive", "--filter", "sate=dead"), ("pause", made["id"])):
        with pytest.raises(CommandError) as refused:
            command(*words)
        assert refused.value.returncode == 2


def test_the_command_takes_how_an_id_begins_and_lists_what_is_meant(db: None) -> None:
    """One that fits is taken; of several each is named, and nothing is done."""
    dead(3)
    made = [
        orjson.loads(command("create", "redrive", "--filter", f"state=dead,{other}", "--json"))["id"]
        for other in ("pending", "expired")
    ]
    with pytest.raises(CommandError) as refused:
        command("pause", made[0][:2])
    assert all(one in str(refused.value) for one in made)
    with pytest.raises(CommandError, match="there is no job nothing"):
        command("pause", "nothing")

    length = next(n for n in range(37) if made[0][:n] != made[1][:n])
    assert command("pause", made[0][:length].upper()).split()[0] == made[0]


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_the_end_of_a_try_never_wait_for_each_other() -> None:
    """Both lock a line before its rows: who waits for the line holds no row that the other is about to lock."""
    if not store.is_postgresql():
        pytest.skip("SQLite has one writer")
    make_receiver()
    [row] = leased(1, ordering_key="k")

    def end() -> None:
        try:
            die([row], "it failed")
        finally:
            connection.close()

    ending = threading.Thread(target=end)
    waits = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    def is_waiting() -> bool:
        cursor.execute(waits)
        return bool(cursor.fetchone()[0])

    with transaction.atomic(), connection.cursor() as cursor:
        store.lock_lines(moves.lines_of([row.pk]), alone=True)
        ending.start()
        wait_for(is_waiting, 20, "the end of the try to wait for the line")
        held = Delivery.objects.select_for_update(nowait=True).get(pk=row.pk)
    ending.join(20)

    assert (held.state, Delivery.objects.get(pk=row.pk).state) == (State.SENDING, State.DEAD)
