"""Sending from inside: pages, commands and session users, through the checks and the insert that intake uses."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from endpoints.access import audit
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError, Forbidden, Malformed
from messaging import store
from messaging.intake.commit import Accepted, Answer, store_planned
from messaging.intake.envelope import Draft, read_message
from messaging.intake.plan import Planned
from messaging.intake.replay import draft_of, plan_all
from messaging.models import Message
from messaging.wakeups import DUE, Notifier

_due = Notifier(DUE)


def send(data: dict[str, Any], *, by: Principal) -> Accepted:
    """Accept one message given in the API's fields; raises what the sender must be told.

    Returns once it is committed.
    """
    answer = send_many([data], by=by)[0]
    if isinstance(answer, ControlPlaneError):
        raise answer
    return answer


def send_many(items: Sequence[Any], *, by: Principal) -> list[Answer]:
    """Accept a batch in one transaction; return an answer for each, in order, errors among them."""
    drafts = [_read(item) for item in items]
    planned = plan_all(drafts, by)
    stored = iter(store_planned([item for item in planned if isinstance(item, Planned)]))
    _due.notify()
    return [item if isinstance(item, ControlPlaneError) else next(stored) for item in planned]


def replay(message: Message, *, by: Principal) -> Accepted:
    """Send a stored message as a new one, to its targets as they are today, and write down who did.

    Raises Forbidden, Conflict when retention took its payload, and Refused as sending does.
    """
    if not by.may("operator"):
        raise Forbidden("this needs the role operator")
    with transaction.atomic():
        store.lock_intake()  # before the audit's row, as every other sender takes it first
        planned = plan_all([draft_of(message, message.targets)], by)[0]
        if isinstance(planned, ControlPlaneError):
            raise planned
        answer = store_planned([planned])[0]
        if isinstance(answer, ControlPlaneError):
            raise answer
        audit.record(by, "replay", message, {"sent_as": [None, answer.message_id]})
        transaction.on_commit(_due.notify)
    return answer


def _read(item: Any) -> Draft | ControlPlaneError:
    try:
        return read_message(item)
    except Malformed as exc:
        return exc
