"""What a subscriber asks for: fields of a `subscribe` frame, checked one by one, and which messages they select."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef, Q

from endpoints.access.principal import Principal
from endpoints.errors import Malformed
from endpoints.models import System, visible
from messaging.gateway.behind import Wanted
from messaging.gateway.entries import Entry
from messaging.intake.fields import check_target
from messaging.models import Delivery, sent_visibly

MOST_VALUES = 50
MOST_CHARS = 200
ANY_AFTER = ".*"

Errors = list[dict[str, str]]


class Field(NamedTuple):
    """One field of a filter: how a value of it is checked, and whether a message has one of the values."""

    check: Callable[[str], str]
    matches: Callable[[Entry, frozenset[str], Principal], bool]


def _text(value: str) -> str:
    return value


def _event_type(value: str) -> str:
    if "*" in value.removesuffix(ANY_AFTER) or value == ANY_AFTER:
        raise ValueError("takes a type such as order.paid, or all of a kind as order.*")
    return value


def _system(value: str) -> str:
    if "/" in check_target(value):
        raise ValueError("takes the slug of a system, without an interface")
    return value


def _has(name: str) -> Callable[[Entry, frozenset[str], Principal], bool]:
    return lambda entry, values, _: entry.fields[name] in values


def _has_event_type(entry: Entry, values: frozenset[str], _: Principal) -> bool:
    """Match a type itself, or what it is a kind of: order.item.added by order.item.* and by order.*."""
    found: str = entry.fields["event_type"]
    return found in values or any(found.startswith(value[:-1]) for value in values if value.endswith(ANY_AFTER))


def _is_from(entry: Entry, values: frozenset[str], _: Principal) -> bool:
    return entry.source in values


def _is_for(entry: Entry, values: frozenset[str], principal: Principal) -> bool:
    """Match the system of a delivery, or with its interface `system/interface`; only of those the reader sees."""
    return any(
        one.system in values or f"{one.system}/{one.interface}" in values for one in entry.receivers_seen_by(principal)
    )


FIELDS: dict[str, Field] = {
    "event_type": Field(_event_type, _has_event_type),
    "source_system": Field(_system, _is_from),
    "target_system": Field(check_target, _is_for),
    "ordering_key": Field(_text, _has("ordering_key")),
    "recipient": Field(_text, _has("recipient")),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A message passes when it has one of the values of every field given."""

    values: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def passes(self, entry: Entry, principal: Principal) -> bool:
        return entry.is_seen_by(principal) and all(
            FIELDS[name].matches(entry, values, principal) for name, values in self.values.items()
        )

    def question(self, principal: Principal) -> Wanted:
        """Return `rows`, and what is the same where they are."""
        return (frozenset(self.values.items()), principal.team_ids, principal.recipient), self.rows(principal)

    def rows(self, principal: Principal) -> Q:
        """Return a condition that all that passes fulfils, so that most of the rest is not even read."""
        found = Q()
        if principal.team_ids is not None:
            received = Delivery.objects.filter(visible(principal, "system__owner"), message=OuterRef("pk"))
            found &= sent_visibly(principal, "source") | Q(Exists(received))
        if principal.recipient:
            found &= Q(recipient=principal.recipient)
        for name in ("ordering_key", "recipient"):
            if name in self.values:
                found &= Q(**{f"{name}__in": self.values[name]})
        if "source_system" in self.values:
            found &= Q(source__in=System.objects.filter(slug__in=self.values["source_system"]).values("pk"))
        if "target_system" in self.values:
            slugs = {value.partition("/")[0] for value in self.values["target_system"]}
            found &= Q(Exists(Delivery.objects.filter(message=OuterRef("pk"), system__slug__in=slugs)))
        return found & self._of_type()

    def _of_type(self) -> Q:
        found = Q()
        for value in self.values.get("event_type", ()):
            kind = Q(event_type__startswith=value[:-1]) if value.endswith(ANY_AFTER) else Q(event_type=value)
            found |= kind
        return found

    def told(self) -> dict[str, list[str]]:
        """Return it as the audit keeps it."""
        return {name: sorted(values) for name, values in self.values.items()}


def read_filter(data: Any, errors: Errors) -> Filter:
    """Return what the `filter` of a frame asks for; what is wrong with it goes to `errors`."""
    if data is None:
        return Filter()
    if not isinstance(data, dict):
        errors.append(_wrong("filter", "must be an object of fields"))
        return Filter()
    found = {}
    for name, value in data.items():
        if name not in FIELDS:
            errors.append(_wrong(f"filter.{name[:100]}", unknown(name, FIELDS), "unknown"))
        elif value is not None:
            try:
                found[name] = _values(FIELDS[name].check, value)
            except ValueError as exc:
                errors.append(_wrong(f"filter.{name}", str(exc)))
        if len(errors) > MOST_VALUES:
            break
    return Filter(found)


def unknown(name: str, known: Mapping[str, Any]) -> str:
    """Return what to say of a field that nobody knows."""
    near = get_close_matches(name, known, n=1)
    return "is not known" + (f"; did you mean {near[0]}?" if near else f", there are {', '.join(known)}")


def refuse(errors: Errors) -> None:
    """Raise Malformed `invalid` that names every field at fault, if there is one."""
    if errors:
        told = "; ".join(f"{error['field']}: {error['detail']}" for error in errors[:5])
        raise Malformed(told, code="invalid", errors=errors)


def _values(check: Callable[[str], str], value: Any) -> frozenset[str]:
    listed = value if isinstance(value, list) else [value]
    if not 1 <= len(listed) <= MOST_VALUES:
        raise ValueError(f"takes one text or a list of 1 to {MOST_VALUES}")
    for item in listed:
        if not isinstance(item, str) or not 1 <= len(item) <= MOST_CHARS or not item.isprintable():
            raise ValueError(f"takes text of 1 to {MOST_CHARS} printable characters, or a list of such")
    return frozenset(map(check, listed))


def _wrong(name: str, detail: str, code: str = "invalid") -> dict[str, str]:
    return {"field": name, "code": code, "detail": detail}
