"""Sending from inside: pages, commands and session users, through the checks and the insert that intake uses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed
from endpoints.transports.bodies import is_json
from messaging import store
from messaging.intake.commit import Accepted, Answer, store_planned
from messaging.intake.envelope import Draft, read_message
from messaging.intake.fields import CHECKS
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


@dataclass(frozen=True, slots=True)
class Edit:
    """What of a message is to be different when it is sent as a new one; the same `key` sends it once."""

    key: str
    payload: bytes
    headers: dict[str, str]
    targets: list[str] | None


def replay(message: Message, *, by: Principal, edit: Edit | None = None) -> Accepted:
    """Send a stored message as a new one, to its targets as they are today, and write down who did.

    Raises Forbidden, Conflict when retention took its payload, and Malformed or Refused as sending does.
    """
    roles.demand(by, "operator")
    draft = draft_of(message, message.targets)
    if edit is not None:
        draft = _edited(message, draft, edit)
    with transaction.atomic():
        store.lock_intake()  # before the audit's row, as every other sender takes it first
        planned = plan_all([draft], by)[0]
        answer = planned if isinstance(planned, ControlPlaneError) else store_planned([planned])[0]
        if isinstance(answer, ControlPlaneError):
            raise answer
        if answer.status == "accepted":
            told = {"sent_as": [None, answer.message_id]}
            audit.record(by, "replay" if edit is None else "send_edited", message, told)
        transaction.on_commit(_due.notify)
    return answer


def _edited(message: Message, draft: Draft, edit: Edit) -> Draft:
    """Return the draft with what was edited, checked as if it had been sent so; raises Malformed."""
    keys, value = draft.search_keys, draft.value
    if edit.payload != draft.payload:
        value = strict_json.parse(edit.payload, exact_numbers=True) if is_json(draft.content_type) else None
        # What its source declares is read from the new payload; what the sender named itself stays.
        declared = {key["name"] for key in message.source.search_keys}
        keys = {name: key for name, key in keys.items() if name not in declared}
    given = {"headers": edit.headers, "target_system": edit.targets, "idempotency_key": edit.key}
    checked: dict[str, Any] = {"target_system": None}
    for name, found in given.items():
        try:
            checked |= {name: CHECKS[name](found)} if found is not None else {}
        except ValueError as exc:
            detail = str(exc)
            errors = [{"field": name, "code": "invalid", "detail": detail}]
            raise Malformed(f"{name}: {detail}", errors=errors) from exc
    return replace(draft, payload=edit.payload, value=value, search_keys=keys, **checked)


def _read(item: Any) -> Draft | ControlPlaneError:
    try:
        return read_message(item)
    except Malformed as exc:
        return exc
