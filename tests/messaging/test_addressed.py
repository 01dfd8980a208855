"""What connected clients get: whom a claim is for decides what is looked at."""

from datetime import timedelta

import pytest

from endpoints.ids import new_id
from endpoints.models import System
from messaging import store
from messaging.models import Delivery, State
from tests.messaging.factories import make_delivery, make_message, make_system

pytestmark = pytest.mark.django_db


@pytest.fixture
def crm() -> System:
    return make_system("crm")


def waiting(system: System, recipient: str, count: int, age_s: float, **fields: int) -> None:
    message = make_message(recipient=recipient)
    due_at = store.now() - timedelta(seconds=age_s)
    first = make_delivery(message, system, State.PENDING, priority=1, due_at=due_at, **fields)
    names = [field.attname for field in Delivery._meta.concrete_fields if not field.generated and field.name != "id"]
    values = {name: getattr(first, name) for name in names}
    Delivery.objects.bulk_create(Delivery(**values) for _ in range(count - 1))


def claimed(system: System, credits: dict[str, int], *, with_suspect: bool = False, limit: int = 20) -> dict[str, int]:
    claims = store.claim_addressed(
        (system.pk, "main", 1), credits, with_suspect=with_suspect, token=new_id(), now=store.now(), lease_s=30,
        limit=limit,
    )  # fmt: skip
    found: dict[str, int] = {}
    for claim in claims:
        found[claim.recipient] = found.get(claim.recipient, 0) + 1
    return found


@pytest.mark.parametrize("present", [0, 300])
def test_a_long_backlog_of_one_recipient_starves_no_other(crm: System, present: int) -> None:
    """However many older ones wait for who takes no more, or is not here; and however many are here."""
    waiting(crm, "anna", 200, 100)
    waiting(crm, "absent", 200, 90)
    waiting(crm, "ben", 3, 10)
    waiting(crm, "", 3, 5)
    credits = {"anna": 1, "ben": 32, "": 2} | {f"idle-{number}": 1 for number in range(present)}

    assert claimed(crm, credits) == {"anna": 1, "ben": 3, "": 2}
    assert (credits["anna"], credits["ben"], credits[""]) == (0, 29, 0)


def test_no_more_is_claimed_than_there_is_room_for_and_the_longest_due_first(crm: System) -> None:
    waiting(crm, "anna", 5, 100)
    waiting(crm, "ben", 5, 10)

    assert claimed(crm, {"anna": 32, "ben": 32}, limit=7) == {"anna": 5, "ben": 2}


def test_a_suspect_goes_alone_and_only_when_it_may(crm: System) -> None:
    waiting(crm, "anna", 30, 100, losses=1)
    waiting(crm, "anna", 1, 10)

    assert claimed(crm, {"anna": 32}) == {"anna": 1}
    assert claimed(crm, {"anna": 32}, with_suspect=True) == {"anna": 1}
    assert claimed(crm, {"anna": 32, "ben": 1}) == {}


def test_what_names_somebody_goes_to_no_client_without_a_name(crm: System) -> None:
    """Also what was stored without a word of it beside the delivery."""
    make_delivery(make_message(recipient="anna"), crm, State.PENDING, priority=1, due_at=store.now(), recipient=None)

    assert claimed(crm, {"": 5}) == {}


def test_a_trial_is_for_somebody_who_is_there(crm: System) -> None:
    waiting(crm, "absent", 3, 100)
    waiting(crm, "anna", 3, 50)
    waiting(crm, "", 3, 10)

    def tried(*recipients: str) -> list[str]:
        found = store.claim_trial(
            (crm.pk, "main"), barred=None, token=new_id(), now=store.now(), lease_s=30, recipients=recipients
        )
        return [claim.recipient for claim in found]

    assert (tried("anna", ""), tried(""), tried("ben")) == (["anna"], [""], [])
