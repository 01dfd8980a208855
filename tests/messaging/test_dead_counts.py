"""The counts of groups after any number of people and engines at once: exactly what is there."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from endpoints.access.principal import Principal
from endpoints.errors import Conflict
from endpoints.ids import new_id
from messaging import store
from messaging.engine.burial import Grouper
from messaging.models import DeadGroup, Delivery, State
from messaging.services import dead_groups, deliveries
from tests.messaging.dying import dead, die, make_receiver
from tests.messaging.factories import make_system

BY = Principal(label="somebody", role="operator", via="test")
ERRORS = ("order 17 is closed", "customer is blocked", "deadlock detected", "no room")
WORKERS, STEPS = 4, 60


def one(chance: random.Random, **fields: object) -> Delivery | None:
    """Return a random delivery, as it was a moment ago."""
    rows = list(Delivery.objects.filter(**fields).values_list("pk", flat=True))
    if not rows:
        return None
    return Delivery.objects.select_related("message", "system", "source").filter(pk=chance.choice(rows)).first()


def let_die(chance: random.Random) -> None:
    """Lease some of what waits, and let it die in one turn."""
    token, now = new_id(), timezone.now()
    waiting = list(Delivery.objects.filter(state=State.PENDING).values_list("pk", flat=True))
    chosen = sorted(chance.sample(waiting, min(len(waiting), chance.randint(1, 12))))
    leased = {"state": State.SENDING, "lease_token": token, "lease_until": now + timedelta(minutes=1)}
    with transaction.atomic():
        Delivery.objects.filter(pk__in=chosen, state=State.PENDING).update(**leased)
    held = list(Delivery.objects.filter(lease_token=token).order_by("pk"))
    if held:
        die(held, *chance.choices(ERRORS, k=len(held)))


def send_again(chance: random.Random) -> None:
    if row := one(chance, state=State.DEAD):
        with suppress(Conflict):
            deliveries.resend(row, by=BY)


def skip(chance: random.Random) -> None:
    if row := one(chance, state=State.DEAD, halting=True):
        with suppress(Conflict):
            deliveries.cancel(row, by=BY)


def resolve(chance: random.Random) -> None:
    if row := one(chance, state=State.DEAD):
        with suppress(Conflict):
            dead_groups.resolve(row, by=BY)


def resolve_all(chance: random.Random) -> None:
    if groups := list(DeadGroup.objects.filter(count__gt=0)):
        dead_groups.resolve_all(chance.choice(groups), by=BY)


def try_one(chance: random.Random) -> None:
    if groups := list(DeadGroup.objects.all()):
        with suppress(Conflict):
            dead_groups.try_one(chance.choice(groups), by=BY)


def lose_group(chance: random.Random) -> None:
    """Make one as it was before there were groups; then let the sweep find it."""
    with transaction.atomic():
        rows = Delivery.objects.select_for_update(skip_locked=connection.vendor == "postgresql")
        ids = list(
            rows.filter(state=State.DEAD, group__isnull=False, resolved_at=None).values_list("pk", flat=True)[:2]
        )
        store.leave_groups(ids)
        Delivery.objects.filter(pk__in=ids).update(group=None)
    Grouper().step()


DEEDS: tuple[Callable[[random.Random], None], ...] = (
    *(let_die, let_die, let_die, send_again, send_again, skip, resolve, try_one, lose_group, resolve_all),
)


def work(number: int) -> None:
    chance = random.Random(number)
    try:
        for _ in range(STEPS):
            chance.choice(DEEDS)(chance)
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_counts_never_drift_whoever_works_at_once() -> None:
    """Engines let die, people send again, skip, try and resolve, the sweep sorts in: nobody waits for ever either."""
    make_receiver("crm")
    make_receiver("erp").__class__.objects.filter(system__slug="erp").update(ordering_policy="halt")
    dead(40)
    for number in range(20):
        dead(1, slug="erp", ordering_key=f"k{number}", error=ERRORS[number % 3])
    make_system("shop")

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))

    Grouper().step()
    for group in DeadGroup.objects.all():
        left = Delivery.objects.filter(group=group, state=State.DEAD, resolved_at=None).count()
        assert group.count == left, group
    assert not Delivery.objects.filter(state=State.DEAD, group=None, resolved_at=None).exists()
