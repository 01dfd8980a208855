"""Distributed runs: cases dealt into shares, which workers take one at a time, each under a lease of its own."""

import os
import socket
import uuid
from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import F

from testing import wakeups
from testing.models import Run, RunState, Share
from testing.runner.leases import MOST_LOSSES, SWEPT, lease_end
from testing.runner.looking import GONE, LEFT_BEHIND, OVER, waiting_shares
from testing.runner.plan import Instance

MOST_SHARES = 32
TRIED = 5


def deal(run: Run, planned: Sequence[Instance]) -> None:
    """Put the cases of a run into shares, unless an earlier worker did; cases that need each other stay together."""
    with transaction.atomic():
        if Share.objects.filter(run=run).exists():
            return
        groups = related(planned)
        wanted = max(1, -(-len(planned) // MOST_SHARES))
        shares: list[list[int]] = [[]]
        for group in groups:
            if len(shares[-1]) >= wanted:
                shares.append([])
            shares[-1] += group
        Share.objects.bulk_create(Share(run=run, numbers=numbers, location=run.location) for numbers in shares)
        wakeups.hint_on_commit(run.location, len(shares))


def related(planned: Sequence[Instance]) -> list[list[int]]:
    """Return the numbers in groups of those that need each other, in the document's order."""
    first_of = {instance.number: instance.number for instance in planned}

    def first(number: int) -> int:
        while first_of[number] != number:
            first_of[number] = first_of[first_of[number]]
            number = first_of[number]
        return number

    for instance in planned:
        for need in instance.needs:
            low, high = sorted((first(instance.number), first(need)))
            first_of[high] = low
    groups: dict[int, list[int]] = {}
    for instance in planned:
        groups.setdefault(first(instance.number), []).append(instance.number)
    return list(groups.values())


def take(
    token: uuid.UUID, locations: Sequence[str], busy: Iterable[uuid.UUID], only: uuid.UUID | None = None
) -> Share | None:
    """Take a share of a run that this worker has no other share of."""
    waiting = waiting_shares(locations).exclude(run__in=list(busy))
    if only is not None:
        waiting = waiting.filter(run=only)
    worker = f"{socket.gethostname()}:{os.getpid()}"[:200]
    for pk in waiting.order_by("id").values_list("pk", flat=True)[:TRIED]:
        taken = Share.objects.filter(pk=pk, state=RunState.WAITING, stop_verdict="").update(
            state=RunState.RUNNING, lease_token=token, lease_until=lease_end(), worker=worker
        )
        if taken:
            return Share.objects.select_related("run__document").get(pk=pk)
    return None


def left(run_id: uuid.UUID) -> int:
    """Return how many shares have not ended; those of lost workers are given back first."""
    sweep()
    return Share.objects.filter(run=run_id).exclude(state=RunState.ENDED).count()


def stop(run_id: uuid.UUID, reason: str, verdict: str) -> None:
    """Have the shares of a run stopped: those that nobody took at once, the others by who has them."""
    open_shares = Share.objects.filter(run=run_id).exclude(state=RunState.ENDED)
    open_shares.filter(stop_verdict="").update(stop_verdict=verdict, stop_reason=reason[:200])
    open_shares.filter(state=RunState.WAITING).update(state=RunState.ENDED)


def sweep() -> int:
    """Give back the shares whose worker is lost; end those that lost too many, or that nobody is to begin any more."""
    pks = list(Share.objects.filter(LEFT_BEHIND).values_list("pk", flat=True)[:SWEPT])
    if not pks:
        return 0
    found = Share.objects.filter(LEFT_BEHIND, pk__in=pks)
    freed = {"lease_token": None, "lease_until": None, "losses": F("losses") + 1}
    ended = found.filter(OVER).update(state=RunState.ENDED, lease_token=None, lease_until=None)
    gone = Share.objects.filter(GONE, pk__in=pks)
    ended += gone.filter(losses__gte=MOST_LOSSES - 1).update(state=RunState.ENDED, **freed)
    return ended + gone.update(state=RunState.WAITING, **freed)
