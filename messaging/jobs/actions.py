"""What a job can do: one row of a table and one small class each.

An action says which deliveries it is for, and does it to a batch of them within the
transaction that also moves the job on. To add one: a class, and its row in ACTIONS.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from django.db.models import Q

from endpoints.access.principal import Principal
from endpoints.errors import Conflict, ControlPlaneError, NotFound
from endpoints.models import SystemState
from messaging import moves, store
from messaging.intake.commit import store_planned
from messaging.intake.envelope import Draft
from messaging.intake.plan import Planned
from messaging.intake.replay import draft_of, plan_all
from messaging.models import FINAL_STATES, Delivery, JobAction, Message, State, Trigger

UNSUCCESSFUL = (State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED)
Ids = Sequence[uuid.UUID]


class Action:
    """One thing to do with deliveries; `states` leads to them by index, `allowed` says of each whether it applies."""

    label: ClassVar[str]  # on buttons: "Send again"
    told: ClassVar[str]  # "12 deliveries ..."
    meaning: ClassVar[str]
    states: ClassVar[tuple[str, ...]]
    is_final: ClassVar[bool] = False  # what is done cannot be taken back, and buttons say so
    wakes: ClassVar[bool] = True  # whether something may be due afterwards
    whole_messages: ClassVar[bool] = False  # whether deliveries of one message are done together

    def allowed(self, before: datetime) -> Q:
        """Select what the action applies to, of what was so when the job was made: `before`."""
        return Q(state__in=self.states, finished_at__lte=before)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        """Do it to those of `ids` that still allow it; return to how many. Runs within a transaction."""
        raise NotImplementedError


class RetryNow(Action):
    label, told = "Retry now", "due at once"
    meaning = "What waits for the time of its next try is due at once. What is paused, blocked or scheduled stays so."
    states = (State.PENDING,)

    def allowed(self, before: datetime) -> Q:
        return moves.WAITS_FOR_ITS_TIME & Q(due_at__gt=before)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        return moves.make_due(ids, self.allowed(before))


class Redrive(Action):
    label, told = "Send again", "sent again"
    meaning = (
        "Each is sent with its original bytes and the same webhook-id, outside the order of its key, with a fresh"
        " budget of attempts."
    )
    states = UNSUCCESSFUL

    def allowed(self, before: datetime) -> Q:
        return super().allowed(before) & Q(message__payload__isnull=False) & ~Q(system__state=SystemState.RETIRED)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        return moves.send_again(ids, self.allowed(before), Trigger.REDRIVE)


class Replay(Action):
    label, told = "Send as new", "sent as new"
    meaning = (
        "A new message for each old one, to those of its targets that are found here, as the registry is today. Its"
        " correlation id leads back to the old one."
    )
    states = FINAL_STATES
    whole_messages = True

    def allowed(self, before: datetime) -> Q:
        return super().allowed(before) & Q(message__payload__isnull=False)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        store.lock_intake()
        rows = Delivery.objects.filter(self.allowed(before), pk__in=ids).select_related("system")
        found: dict[int, list[Delivery]] = {}
        for delivery in rows.order_by("message_id", "pk"):
            found.setdefault(delivery.message_id, []).append(delivery)
        messages = Message.objects.select_related("source").in_bulk(found)
        plans = plan_all([_draft(messages.get(key), found[key]) for key in found], by)
        good = [(plan, key) for plan, key in zip(plans, found, strict=True) if isinstance(plan, Planned)]
        answers = store_planned([plan for plan, _ in good])
        stored = zip(answers, good, strict=True)
        return sum(len(found[key]) for answer, (_, key) in stored if not isinstance(answer, ControlPlaneError))


def _draft(message: Message | None, deliveries: list[Delivery]) -> Draft | ControlPlaneError:
    """Return the message for those of its targets that are found, where its sender named any; else for routes."""
    if message is None:
        return NotFound("the message was deleted meanwhile")
    named = [f"{delivery.system.slug}/{delivery.interface}" for delivery in deliveries]
    try:
        return draft_of(message, None if message.targets is None else named)
    except Conflict as exc:
        return exc


class Cancel(Action):
    label, told = "Cancel", "cancelled"
    meaning = (
        'Each that waits stops for good and is kept with the reason "operator"; so does a dead one that its ordering'
        " key waits for, and the next goes."
    )
    states = (State.PENDING, State.DEAD)
    is_final = True

    def allowed(self, before: datetime) -> Q:
        return Q(state=State.PENDING) | Q(state=State.DEAD, halting=True, finished_at__lte=before)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        return moves.cancel(ids, self.allowed(before), moves.lines_of(ids))


class Purge(Action):
    label, told = "Delete", "deleted"
    meaning = (
        "Each that has ended is deleted with its attempts, and so is its message when nothing of it is left. The"
        " ledger counts them as purged. What is open, or holds up its ordering key, is never deleted."
    )
    states = FINAL_STATES
    is_final = True
    wakes = False

    def allowed(self, before: datetime) -> Q:
        return super().allowed(before) & Q(halting=False)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        return moves.purge(ids, self.allowed(before))


class Resolve(Action):
    label, told = "Resolve", "resolved"
    meaning = "Nothing is to be done about these dead letters any more; they are kept, and no longer counted as open."
    states = (State.DEAD,)
    wakes = False

    def allowed(self, before: datetime) -> Q:
        return super().allowed(before) & Q(resolved_at__isnull=True)

    def act(self, ids: Ids, before: datetime, by: Principal) -> int:
        return moves.resolve(ids, self.allowed(before), by.label)


ACTIONS: dict[str, Action] = {
    JobAction.RETRY_NOW: RetryNow(),
    JobAction.REDRIVE: Redrive(),
    JobAction.REPLAY: Replay(),
    JobAction.CANCEL: Cancel(),
    JobAction.PURGE: Purge(),
    JobAction.RESOLVE: Resolve(),
}
