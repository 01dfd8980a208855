"""Sending from inside: pages, commands and session users, through the checks and the insert that intake uses."""

from collections.abc import Sequence
from typing import Any

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError, Malformed
from messaging.intake.commit import Accepted, Answer, store_planned
from messaging.intake.directory import DIRECTORY, broadcast_parties
from messaging.intake.envelope import Draft, read_message
from messaging.intake.fields import BROADCAST
from messaging.intake.plan import Planned, plan_or_error, slugs_of
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
    good = [draft for draft in drafts if isinstance(draft, Draft)]
    parties = DIRECTORY.look_up(set().union(*(slugs_of(draft, by) for draft in good)))
    is_broadcast = any(BROADCAST in (draft.target_system or ()) for draft in good)
    broadcast = broadcast_parties() if is_broadcast else []
    planned = [plan_or_error(draft, by, parties, broadcast) for draft in drafts]
    stored = iter(store_planned([item for item in planned if isinstance(item, Planned)]))
    _due.notify()
    return [item if isinstance(item, ControlPlaneError) else next(stored) for item in planned]


def _read(item: Any) -> Draft | ControlPlaneError:
    try:
        return read_message(item)
    except Malformed as exc:
        return exc
