"""Dead letters by their cause: they are counted where they die, and leave as people deal with them."""

import pytest

from messaging.engine.burial import MOST_GROUPS, Grouper
from messaging.jobs.runner import Runner
from messaging.models import DeadGroup, Delivery, State
from messaging.services import dead_groups
from tests.messaging.api_client import Api
from tests.messaging.dying import dead, die, leased, make_receiver
from tests.messaging.factories import make_delivery, make_key, make_system, make_team

pytestmark = pytest.mark.django_db
GROUPS = "dead-letters/groups/"


def real_count(group: DeadGroup) -> int:
    return Delivery.objects.filter(group=group, resolved_at=None, state=State.DEAD).count()


def finish_jobs() -> None:
    """Let the jobs there are run until there is nothing to do."""
    runner = Runner()
    while runner.step() == 0:
        pass


def only_group() -> DeadGroup:
    return DeadGroup.objects.get()


def only_group_of(signature: str) -> DeadGroup:
    return DeadGroup.objects.get(signature=signature)


def test_what_dies_of_one_cause_is_one_group(viewer: Api) -> None:
    """The number of the order and the time do not matter; count, first and last seen, and the last as example do."""
    first, *_, last = dead(3, "order 17 is closed since 2026-01-02T03:04:05Z")
    dead(1, "customer is blocked")

    later, early = viewer.results(GROUPS)

    assert (later["signature"], later["count"]) == ("customer is blocked", 1)
    assert (early["signature"], early["count"]) == ("order <n> is closed since <time>", 3)
    assert early["example"] in {str(first.pk), str(last.pk)} | {str(row.pk) for row in Delivery.objects.all()}
    assert (early["system"], early["interface"], early["error_class"]) == ("crm", "main", "client_error")
    assert early["first_at"] == early["last_at"]


def test_causes_are_apart_by_interface_and_by_class() -> None:
    """The same words of another system, or of another kind of failure, are another cause."""
    die(leased(1), "it failed", error_class="timeout")
    die(leased(1), "it failed", error_class="server_error")
    die(leased(1, "erp"), "it failed", error_class="timeout")

    assert DeadGroup.objects.count() == 3


def test_what_the_answer_says_tells_causes_apart(operator: Api, viewer: Api) -> None:
    """Two bodies under one status are two causes; the words of a body are for those who may read payloads."""
    die(leased(2), "answered 422", body=b'{"detail": "order 4711 is closed"}')
    die(leased(1), "answered 422", body=b'{"detail": "customer is blocked"}')

    assert [row["count"] for row in operator.results(GROUPS)] == [1, 2]
    assert operator.results(GROUPS)[1]["signature"] == 'answered 422\n{"detail": "order <n> is closed"}'
    assert {row["signature"] for row in viewer.results(GROUPS)} == {"answered 422"}


def test_a_search_finds_nothing_that_is_not_shown(operator: Api, viewer: Api) -> None:
    """Who may not read what an answer said cannot guess it by searching for it either."""
    die(leased(1), "answered 422", body=b"customer is blocked")
    dead(1, "it failed")
    assert operator.post(f"{GROUPS}{only_group_of('it failed').pk}/note/", {"note": "told the blocked one"})[0] == 200

    assert len(operator.results(GROUPS, q="blocked")) == 2
    assert [row["signature"] for row in viewer.results(GROUPS, q="blocked")] == ["it failed"]
    assert [row["signature"] for row in viewer.results(GROUPS, q="422")] == ["answered 422"]


def test_a_receiver_of_random_words_makes_a_bounded_number_of_groups() -> None:
    """Beyond the bound all of an interface and class are "other errors"."""
    words = [f"{a}{b}{c} happened" for a in "bcdfghjklm" for b in "aeiou" for c in "npqrstvwxyz"]
    rows = leased(len(words))
    for place in range(0, len(rows), 60):
        die(rows[place : place + 60], *words[place : place + 60])

    assert DeadGroup.objects.count() <= MOST_GROUPS + 1
    assert sum(group.count for group in DeadGroup.objects.all()) == len(words)
    assert DeadGroup.objects.get(signature="other errors").count >= len(words) - MOST_GROUPS


def test_sent_again_it_leaves_its_group_and_a_new_death_counts_anew(operator: Api) -> None:
    row, _ = dead(2)
    assert operator.post(f"deliveries/{row.pk}/resend/")[0] == 202

    assert only_group().count == real_count(only_group()) == 1
    row.refresh_from_db()
    assert row.group_id is None


def test_a_halting_head_that_is_skipped_leaves_its_group(operator: Api) -> None:
    make_receiver(accepts_broadcast=False).__class__.objects.update(ordering_policy="halt")
    (row,) = dead(1, ordering_key="k")
    row.refresh_from_db()
    assert row.halting
    assert operator.post(f"dead-letters/{row.pk}/resolve/")[0] == 409
    assert operator.post(f"{GROUPS}{row.group_id}/resolve/")[1] == {"resolved": 0, "left": 1, "halting": 1, "job": None}

    assert operator.post(f"deliveries/{row.pk}/cancel/")[0] == 202
    assert only_group().count == 0


def test_resolving_all_closes_the_group_and_a_new_death_says_that_it_came_back(operator: Api) -> None:
    dead(3)
    at = f"{GROUPS}{only_group().pk}/"
    assert operator.post(f"{at}resolve/") == (200, {"resolved": 3, "left": 0, "halting": 0, "job": None})

    _, shown = operator.get(at)
    assert (shown["resolved"], shown["came_back"], shown["count"], shown["examples"]) == (True, False, 0, [])
    assert shown["resolved_by"].startswith("key:operator")
    assert operator.results(GROUPS, resolved="false") == []
    assert operator.get("/api/health")[1]["dead_unresolved"] == 0

    dead(1)
    (again,) = operator.results(GROUPS, resolved="false")
    assert (again["count"], again["came_back"], again["resolved_at"]) == (1, True, shown["resolved_at"])


def test_many_are_resolved_by_a_job(operator: Api) -> None:
    """More than a person waits for: the same job for two who press at once, and it closes the group."""
    first, *_ = dead(1)
    copies = [
        Delivery(message=first.message, source=first.source, system=first.system, interface="main", state="dead",
                 reason="refused", max_attempts=1, due_at=first.due_at, created_at=first.created_at,
                 finished_at=first.finished_at, group_id=first.group_id)
        for _ in range(dead_groups.MOST_AT_ONCE)
    ]  # fmt: skip
    Delivery.objects.bulk_create(copies)
    DeadGroup.objects.update(count=1 + len(copies))
    at = f"{GROUPS}{only_group().pk}/"

    _, answer = operator.post(f"{at}resolve/")
    assert operator.post(f"{at}resolve/")[1]["job"] == answer["job"]
    finish_jobs()

    assert operator.get(f"jobs/{answer['job']}/")[1]["state"] == "done"
    _, shown = operator.get(at)
    assert (shown["count"], shown["resolved"], real_count(only_group())) == (0, True, 0)
    assert shown["resolved_by"].startswith("key:operator")


def test_one_is_resolved_once(operator: Api) -> None:
    row, other = dead(2)
    status, body = operator.post(f"dead-letters/{row.pk}/resolve/")

    assert (status, body["state"], body["resolved_at"] is not None) == (200, "dead", True)
    assert only_group().count == 1
    assert operator.post(f"dead-letters/{row.pk}/resolve/")[0] == 409
    assert only_group().count == 1
    assert [found["id"] for found in operator.results("dead-letters/", resolved="true")] == [str(row.pk)]
    assert [found["id"] for found in operator.results("dead-letters/", resolved="false")] == [str(other.pk)]
    assert [found["id"] for found in operator.results("deliveries/", dead_group=row.group_id)] == [str(other.pk)]


def test_one_is_tried_before_all(operator: Api) -> None:
    """The newest, alone; it is counted no more, since it is on its way."""
    rows = dead(3)
    status, tried = operator.post(f"{GROUPS}{only_group().pk}/try/")

    assert (status, tried["state"], tried["id"]) == (202, "pending", str(max(row.pk for row in rows)))
    assert only_group().count == 2


def test_a_note_is_kept_with_who_left_it(operator: Api, viewer: Api) -> None:
    dead(1)
    at = f"{GROUPS}{only_group().pk}/"

    assert viewer.post(f"{at}note/", {"note": "x"})[0] == 403
    assert operator.post(f"{at}note/", {"note": "x" * 2001})[0] == 400
    assert operator.post(f"{at}note/", {"note": "ERP is told"})[1]["note"] == "ERP is told"
    assert viewer.get(at)[1]["noted_by"].startswith("key:operator")
    assert operator.post(f"{at}note/", {"note": ""})[1]["noted_by"] is None


def test_groups_belong_to_the_team_of_the_receiver() -> None:
    make_system("crm", owner=make_team("sales"))
    dead(1)
    other = Api(make_key("admin", team=make_team("logistics")))

    assert other.results(GROUPS) == []
    assert other.get(f"{GROUPS}{only_group().pk}/")[0] == 404
    assert other.post(f"{GROUPS}{only_group().pk}/resolve/")[0] == 404
    assert len(Api(make_key("viewer", team=make_team("sales"))).results(GROUPS)) == 1


def test_what_was_dead_before_there_were_groups_is_grouped_by_the_sweep(operator: Api) -> None:
    """In steps, by a delivery process; until then it counts, and says that it is in no group yet."""
    for number in range(4):
        make_delivery(state=State.DEAD, error=f"order {number} is closed", error_class="client_error")
    assert operator.get("/api/health")[1]["dead_unresolved"] == 4
    assert {row["dead_group"] for row in operator.results("dead-letters/")} == {None}

    assert Grouper().step() == 4
    assert only_group().count == real_count(only_group()) == 4
    assert operator.get("/api/health")[1]["dead_unresolved"] == 4


@pytest.mark.parametrize("ordering", ["-last_at", "count", "-count"])
def test_groups_are_read_by_pages(viewer: Api, ordering: str) -> None:
    for word in ("alpha", "beta", "gamma", "delta", "omega"):
        dead(len(word), f"{word} failed")
    seen, path = [], f"{GROUPS}?page_size=2&ordering={ordering}"
    while path:
        _, page = viewer.get(path)
        seen += [row["signature"] for row in page["results"]]
        path = page["next"]

    assert len(seen) == len(set(seen)) == 5
    assert viewer.results(GROUPS, q="beta", system="crm", interface="main", error_class="client_error")[0]["count"] == 4
