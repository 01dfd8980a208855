"""The breakers' rows: what a batch of ends means for them, who may try, what became of them. Sync, in a transaction."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from endpoints.ids import new_id
from endpoints.models import Breaker, BreakerState, Endpoint, Maintenance
from messaging import store
from messaging.engine import breaker, fencing
from messaging.models import Outcome, Reason, State, Trigger
from messaging.store import Claim, Finish, Glance

if TYPE_CHECKING:
    from messaging.engine.record import Ended

FAILED = frozenset({Outcome.RETRY.value, Outcome.DEAD.value})
JUDGED = FAILED | {Outcome.DELIVERED.value}
ANSWERED = FAILED | {Outcome.THROTTLED.value}
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_BACK = timedelta(seconds=5)  # a row is written a while before it can be read
HEALED_ONCE = timedelta(seconds=5)  # every process sees a change, the first one starts the slow start


@dataclass(slots=True)
class Tally:
    """Successes of endpoints with nothing against them: kept here until a failure makes them matter."""

    counts: dict[UUID, dict[int, int]] = field(default_factory=dict)

    def add(self, endpoint: UUID, start: int) -> None:
        """Count one in the 30 seconds from `start`."""
        counts = self.counts.setdefault(endpoint, {})
        counts[start] = counts.get(start, 0) + 1
        if len(counts) > breaker.BUCKETS:
            del counts[min(counts)]


def judge(
    ended: Sequence["Ended"], dirty: Collection[UUID], tally: Tally, now: datetime
) -> tuple[list["Ended"], list[Breaker]]:
    """Count the tries of a batch; return it with what is not spent put back, and the breakers as they are now.

    Nothing is read or written for endpoints that had successes alone, unless they are `dirty`.
    """
    by_endpoint: dict[UUID, list[int]] = defaultdict(list)
    touched = set()
    for place, item in enumerate(ended):
        endpoint = item.trial or item.finish.endpoint_id
        if endpoint is None or (item.trial is None and outcome(item) not in JUDGED):
            continue
        by_endpoint[endpoint].append(place)
        if item.trial or outcome(item) in FAILED or endpoint in dirty:
            touched.add(endpoint)
    judged, rows = list(ended), _lock(touched, now) if touched else []
    ours = fencing.held(ended) if rows else set()  # what another took over was its try to judge
    for row in rows:
        for start, number in tally.counts.get(row.endpoint_id, {}).items():
            breaker.count(row, start, number, 0, now)
        for place in by_endpoint[row.endpoint_id]:
            if judged[place].trial or fencing.lease_of(judged[place]) in ours:
                judged[place] = _judge_one(row, judged[place], now)
        row.written_at = now
        row.save()
    return judged, rows


def settle(ended: Sequence["Ended"], rows: Sequence[Breaker], tally: Tally, now: datetime) -> None:
    """Remember the successes that no row counted; call it once the batch is committed."""
    counted = {row.endpoint_id for row in rows}
    for endpoint in counted:
        tally.counts.pop(endpoint, None)
    start = breaker.bucket(now)
    for item in ended:
        door = item.finish.endpoint_id
        if door is not None and door not in counted and outcome(item) == Outcome.DELIVERED:
            tally.add(door, start)


def outcome(item: "Ended") -> str:
    """Return how the attempt ended, "" without one."""
    return item.finish.attempt["outcome"] if item.finish.attempt else ""


def _lock(endpoints: Collection[UUID], now: datetime) -> list[Breaker]:
    """Return the breakers, held until the transaction ends and in one order everywhere; new ones are made."""
    rows = Breaker.objects.select_for_update().filter(pk__in=endpoints).order_by("pk")
    found = list(rows)
    missing = set(endpoints) - {row.pk for row in found}
    if missing:  # of endpoints that were deleted meanwhile there is nothing to keep
        there = Endpoint.objects.filter(pk__in=missing).values_list("pk", flat=True)
        fresh = [Breaker(pk=pk, written_at=now) for pk in sorted(there)]
        Breaker.objects.bulk_create(fresh, ignore_conflicts=True)
        found = list(rows.all())
    return found


def _judge_one(row: Breaker, item: "Ended", now: datetime) -> "Ended":
    attempt, finish = item.finish.attempt, item.finish
    ended = outcome(item)
    if item.trial is not None:
        return _judge_trial(row, item, ended, now)
    assert attempt is not None
    if ended == Outcome.DELIVERED:
        breaker.succeed(row, attempt["started_at"], now)
        return item
    is_spent = breaker.fail(row, finish.id, attempt["started_at"], now)
    if is_spent:
        row.error_class, row.error = finish.error_class, finish.error
    return item if is_spent else _put_back(row, item)


def _judge_trial(row: Breaker, item: "Ended", ended: str, now: datetime) -> "Ended":
    is_ours = row.state == BreakerState.HALF_OPEN and row.trying == item.finish.token
    if ended == Outcome.DELIVERED:
        if row.state != BreakerState.CLOSED:
            breaker.close(row, now)
    elif is_ours:
        breaker.stay_open(row, item.finish.id if ended in ANSWERED else None, now)
    if ended not in FAILED:
        return item
    row.error_class, row.error = item.finish.error_class, item.finish.error
    return _put_back(row, item)


def _put_back(row: Breaker, item: "Ended") -> "Ended":
    """Return the end of a try that is not spent: it failed with the endpoint, not for its own sake."""
    finish, attempt = item.finish, item.finish.attempt
    if item.gone or attempt is None:  # 410 is an answer about this very address: the pause that follows holds the rest
        return item
    reason = Reason.RETRYING if row.state == BreakerState.CLOSED else Reason.BREAKER
    back: Finish = replace(
        finish,
        state=State.PENDING.value,
        reason=reason.value,
        attempts=finish.attempts - 1,
        unspent=finish.unspent + 1,
        delay_s=0.0,
        attempt={**attempt, "outcome": Outcome.RETRY.value},
    )
    return replace(item, finish=back, response=None)


def take_trials(
    wanted: Mapping[UUID, tuple[tuple[int, str], float]],
    lease_s: float,
    now: datetime,
    credits: Mapping[tuple[int, str], Mapping[str, int]] | None = None,
) -> tuple[list[Claim], list[Breaker]]:
    """Lease one delivery for each endpoint of {endpoint: (interface, timeout)} whose open breaker lets one be tried.

    With `credits` ({interface: {recipient: how many more}}) only one that is for somebody there.
    Never the one that failed last, unless there is no other and it rested for a while.
    """
    claims: list[Claim] = []
    tried = []
    rows = Breaker.objects.select_for_update(skip_locked=True).filter(pk__in=wanted, try_at__lte=now)
    in_maintenance = Maintenance.objects.at(now).filter(system__endpoints=OuterRef("pk"))
    rows = rows.filter(~Exists(in_maintenance))  # the registry may not have heard of it yet
    for row in rows.exclude(state=BreakerState.CLOSED).order_by("pk"):
        (system_id, interface), timeout_s = wanted[row.pk]
        token = new_id()
        others = (row.last_failed, None)[: 2 if breaker.may_repeat(row, now) else 1]
        for suspect, barred in product((False, True), others):  # one that may take us down only where there is no other
            found = store.claim_trial(
                (system_id, interface),
                barred=barred,
                token=token,
                now=now,
                lease_s=lease_s,
                recipients=None if credits is None else credits[system_id, interface].keys(),
                suspect=suspect,
            )
            if found:
                break
        for claim in found:
            claim.trial, claim.trigger = row.pk, Trigger.HALF_OPEN.value
        if found:
            breaker.begin(row, token, now + timedelta(seconds=timeout_s + lease_s))
            row.written_at = now
            row.save()
            tried.append(row)
        claims += found
    return claims, tried


def give_up(claims: Sequence[Claim]) -> None:
    """Let others try at once what was to be tried and is given back."""
    for claim in claims:
        if claim.trial is not None:
            now = store.now()
            row = Breaker.objects.filter(pk=claim.trial, state=BreakerState.HALF_OPEN, trying=claim.token)
            row.update(state=BreakerState.OPEN, trying=None, try_at=now, written_at=now)


def look(since: datetime | None) -> tuple[Glance, timedelta, list[Breaker]]:
    """Return (what there is to know, how far the database's clock is ahead of ours, breakers changed since `since`).

    `since` is the time of an earlier look, None for all breakers.
    """
    written_since = LONG_AGO if since is None else since - LOOK_BACK
    seen = store.glance(datetime.now(UTC), written_since)
    ahead = seen.now - datetime.now(UTC)
    return seen, ahead, list(Breaker.objects.filter(written_at__gte=written_since)) if seen.has_breakers else []


def heal(endpoints: Collection[UUID]) -> list[Breaker]:
    """Begin anew with endpoints that were resumed or changed: slowly, an open one with a try at once."""
    with transaction.atomic():
        now = store.now()
        rows = _lock(endpoints, now)
        for row in rows:
            if row.state != BreakerState.CLOSED:
                row.try_at = now if row.state == BreakerState.OPEN else row.try_at
            elif row.healed_at is None or now - row.healed_at > HEALED_ONCE:
                breaker.close(row, now)
            else:
                continue
            row.written_at = now
            row.save()
    return rows
