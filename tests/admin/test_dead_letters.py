"""The workplace of dead letters: what a person sees of a cause, and what they can do about it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from endpoints.models import System
from messaging.models import DeadGroup, Delivery, State
from messaging.services import dead_groups
from tests.admin.conftest import MARKUP
from tests.messaging.dying import die, leased

pytestmark = pytest.mark.django_db
Signed = Callable[..., Client]
LIST = "/admin/dead-letters/"


def make_cause(
    count: int = 3, error: str = "answered 422", body: bytes = b'{"detail": "order 17 is closed"}'
) -> DeadGroup:
    """Return the group of what died of one error at `crm`."""
    known = set(DeadGroup.objects.values_list("pk", flat=True))
    die(leased(count), error, body=body)
    System.objects.filter(slug="crm").update(contact="crm-oncall", runbook_url="https://wiki.example/crm")
    return DeadGroup.objects.exclude(pk__in=known).get()


def test_nothing_dead_says_so(sign_in: Signed) -> None:
    assert b"Nothing is dead" in sign_in("viewer").get(LIST).content


def test_a_cause_shows_what_is_known_of_it(sign_in: Signed) -> None:
    """How many, whom to ask, the runbook, and its words with what varies dimmed; the menu says how many wait."""
    group = make_cause()
    page = sign_in("operator").get(LIST).content.decode()

    assert "answered 422" in page
    assert 'order <span class="cp-slot">&lt;n&gt;</span> is closed' in page
    assert "crm-oncall" in page
    assert 'href="https://wiki.example/crm"' in page
    assert f'href="/admin/jobs/new/?action=redrive&amp;dead_group={group.pk}"' in page
    assert re.search(r"Dead letters.{0,900}?>\s*3\s*<", page, re.DOTALL)


def test_what_an_answer_said_is_for_those_who_may_read_payloads(sign_in: Signed) -> None:
    group = make_cause()
    viewer, operator = sign_in("viewer"), sign_in("operator")
    for path in (LIST, f"{LIST}{group.pk}/"):
        assert b"is closed" not in viewer.get(path).content
        assert b"is closed" in operator.get(path).content
        assert b"Try one" not in viewer.get(path).content


def test_one_is_tried_and_what_came_of_it_is_shown(sign_in: Signed) -> None:
    """While it is on its way the page looks; then it says to send the others, or that they would fail likewise."""
    client, group = sign_in("operator"), make_cause()
    answer = client.post(f"{LIST}{group.pk}/act/", {"action": "try_one"})
    tried = Delivery.objects.get(state=State.PENDING)
    assert answer["Location"] == f"{LIST}{group.pk}/?tried={tried.pk}"
    assert f'data-delivery="{tried.pk}"' in client.get(answer["Location"]).content.decode()

    ended = {"reason": "sent", "finished_at": timezone.now(), "error": ""}
    Delivery.objects.filter(pk=tried.pk).update(state=State.DELIVERED, **ended)
    assert b"now send the other 2" in client.get(answer["Location"]).content
    Delivery.objects.filter(pk=tried.pk).update(state=State.DEAD, reason="refused", error="still closed")
    page = client.get(answer["Location"]).content.decode()
    assert "It failed again" in page
    assert "still closed" in page


def test_resolving_is_for_operators_and_closes_the_cause(sign_in: Signed) -> None:
    group = make_cause()
    act = f"{LIST}{group.pk}/act/"
    assert sign_in("viewer").post(act, {"action": "resolve"}).status_code == 403
    client = sign_in("operator")
    assert client.post(act, {"action": "anything"}).status_code == 403
    assert client.post(act, {"action": "resolve", "back": "https://elsewhere.example/"})["Location"] == LIST

    assert b"Nothing is dead" in client.get(LIST).content
    assert b"resolved" in client.get(f"{LIST}?resolved=true").content
    assert b"A new one opens it again" in client.get(f"{LIST}{group.pk}/").content
    die(leased(1), "answered 422", body=b'{"detail": "order 18 is closed"}')
    assert b"came back" in client.get(LIST).content
    assert b"It came back: it was resolved" in client.get(f"{LIST}{group.pk}/").content


def test_a_note_stays_with_the_cause_and_is_only_text(sign_in: Signed) -> None:
    """So is everything else that a receiver or a person wrote."""
    client, group = sign_in("operator"), make_cause(1, MARKUP, f'{{"detail": "is {MARKUP[:8]} not there"}}'.encode())
    client.post(f"{LIST}{group.pk}/act/", {"action": "note", "note": MARKUP})
    assert DeadGroup.objects.get().note == MARKUP
    for path in (LIST, f"{LIST}{group.pk}/", f"{LIST}?q={MARKUP}&system={MARKUP}&ordering={MARKUP}"):
        answer = client.get(path)
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert not re.search(r"<script(?![^>]*src=)", page)


def test_the_list_asks_no_more_for_more_causes(sign_in: Signed, django_assert_max_num_queries: Any) -> None:
    for word in ("alpha", "beta", "gamma", "delta"):
        make_cause(2, f"{word} failed", b"")
    client = sign_in("operator")
    client.get(LIST)
    with django_assert_max_num_queries(14):
        client.get(LIST)
    with django_assert_max_num_queries(14):
        client.get(f"{LIST}{DeadGroup.objects.first().pk}/")  # type: ignore[union-attr]


def test_what_is_not_grouped_yet_is_said(sign_in: Signed) -> None:
    group = make_cause(2)
    Delivery.objects.update(group=None)
    DeadGroup.objects.filter(pk=group.pk).update(count=0)

    assert b"not grouped yet" in sign_in("operator").get(LIST).content
    assert dead_groups.unresolved() == 2
