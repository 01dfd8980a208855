"""List filters: a view declares a table, and whatever is not in it, or does not parse, is a clear 400.

    filters = {
        "state": choice("state", State.values),
        "created_after": moment("created_at__gte", "Created at or after this time."),
        "q": words("slug", "name"),
    }

Views that show one row take no query parameters but those in `detail_parameters`.
"""

import difflib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db.models import JSONField, Q, QuerySet
from django.db.models.fields.json import HasKey
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request

from endpoints.edge import pages
from endpoints.errors import Malformed

MAX_LENGTH = 500
MAX_CHOICES = 50
# Room to add and subtract on both sides without leaving what a datetime can hold.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Filter:
    """One query parameter: how its text is read (raises ValueError with the reason) and what it selects.

    `many` takes several values, separated by commas or given repeatedly; `condition`
    then gets the list.
    """

    parse: Callable[[str], Any]
    condition: Callable[[Any], Q]
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    many: bool = False


def text(path: str, description: str = "") -> Filter:
    """Match `path` exactly."""
    return Filter(str, lambda value: Q(**{path: value}), description)


def one_of(path: str, description: str = "") -> Filter:
    """Match `path` against one or more texts, such as slugs."""
    return Filter(str, lambda values: Q(**{f"{path}__in": values}), description, many=True)


def choice(path: str, choices: Iterable[str] | Mapping[str, Any], description: str = "") -> Filter:
    """Match `path` against one or more of `choices`; a mapping says what each name stands for in the database."""
    values = choices if isinstance(choices, Mapping) else {name: name for name in choices}

    def parse(name: str) -> Any:
        if name not in values:
            raise ValueError(f"'{name}' is not one of {', '.join(values)}.")
        return values[name]

    schema = {"type": "string", "enum": list(values)}
    return Filter(parse, lambda found: Q(**{f"{path}__in": found}), description, schema, many=True)


def identifier(path: str, description: str = "") -> Filter:
    """Match `path` against a UUID."""
    schema = {"type": "string", "format": "uuid"}
    return Filter(parse_uuid, lambda value: Q(**{path: value}), description, schema)


def moment(lookup: str, description: str = "") -> Filter:
    """Compare `lookup` (with its operator, as in `created_at__gte`) with an RFC 3339 time."""
    schema = {"type": "string", "format": "date-time"}
    return Filter(parse_moment, lambda value: Q(**{lookup: value}), description, schema)


def number(lookup: str, low: int, high: int, description: str = "") -> Filter:
    """Compare `lookup` with a whole number of low..high."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 19 and low <= int(value) <= high):
            raise ValueError(f"must be a whole number of {low} to {high}.")
        return int(value)

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Filter(parse, lambda value: Q(**{lookup: value}), description, schema)


def boolean(path: str, description: str = "") -> Filter:
    """Match a flag against true or false."""
    return condition(Q(**{path: True}), description)


def condition(when_true: Q, description: str = "") -> Filter:
    """Select the rows of `when_true` on true, the others on false."""
    return Filter(parse_boolean, lambda yes: when_true if yes else ~when_true, description, {"type": "boolean"})


def member(path: str, description: str = "") -> Filter:
    """Match rows whose JSON list at `path` has this text in it."""
    return Filter(str, lambda value: Q(**{f"{path}__has_member": value}), description)


def words(*paths: str) -> Filter:
    """Search for the text anywhere in one of `paths`; for small tables only, since no index helps."""

    def search(value: str) -> Q:
        # Whether databases know the cases of other letters depends on which, and on how it was made.
        lookup, wanted = ("icontains", value) if value.isascii() else ("iregex", "".join(map(_in_any_case, value)))
        found = Q()
        for path in paths:
            found |= Q(**{f"{path}__{lookup}": wanted})
        return found

    return Filter(str, search, f"Text to find in {', '.join(paths)}.")


def _in_any_case(letter: str) -> str:
    """Return the pattern of one letter, in words that the regular expressions of both databases share."""
    if letter.isascii():
        return re.escape(letter)
    return f"[{''.join(sorted({form for form in (letter, letter.lower(), letter.upper()) if len(form) == 1}))}]"


def custom(condition: Callable[[str], Q], description: str) -> Filter:
    """Select by a function of the text, which may raise ValueError with a reason."""
    return Filter(str, condition, description)


def parse_uuid(value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError as exc:
        raise ValueError("must be a UUID.") from exc


def parse_moment(value: str) -> datetime:
    """Read an RFC 3339 time; one without an offset is UTC."""
    # A '+' of an offset that was not percent-encoded arrives as a space.
    spelled = value.replace(" ", "+") if value.count(" ") == 1 and "T" in value else value
    try:
        found = parse_datetime(spelled)
        if found is not None:
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
            if EARLIEST <= found < LATEST:
                return found
    except (ValueError, OverflowError) as exc:  # the 31st of February; an offset that leaves the years 1 to 9999
        raise ValueError("must be a time that exists.") from exc
    raise ValueError("must be an RFC 3339 time of 1970 to 9998, such as 2026-01-31T12:00:00Z.")


def parse_boolean(value: str) -> bool:
    if value not in TRUTHS:
        raise ValueError("must be true or false.")
    return TRUTHS[value]


class TableFilterBackend(BaseFilterBackend):
    """Applies a view's `filters` table to its lists; refuses every parameter that nobody reads."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """Return the rows the query asks for; raises Malformed with one entry in `errors` per bad parameter."""
        if view.detail:
            refuse_unknown(request, getattr(view, "detail_parameters", ()))
            return queryset
        table: Mapping[str, Filter] = view.filters
        refuse_unknown(request, [*table, *pages.PARAMETERS])
        return apply(table, request, queryset)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [describe(name, found) for name, found in view.filters.items()]


def refuse_unknown(request: Request, known: Iterable[str]) -> None:
    """Raise Malformed for a query parameter outside `known`, naming the nearest one."""
    refuse_names(request.query_params, known, "query parameter")


def refuse_names(names: Iterable[str], known: Iterable[str], noun: str) -> None:
    """Raise Malformed for a name outside `known`, naming the nearest one."""
    allowed = list(known)
    errors = []
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(sorted(allowed)) or 'none'}."
            errors.append({"field": name[:100], "code": "unknown", "detail": f"unknown {noun.split()[-1]}; {hint}"})
    if errors:
        first = errors[0]
        raise Malformed(f"unknown {noun} '{first['field']}'; {first['detail'].partition('; ')[2]}", errors=errors)


def apply(table: Mapping[str, Filter], request: Request, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Return the rows of `queryset` that pass every filter given in the query."""
    conditions = parsed(table, request, lambda found, given: found.condition(read(found, given)))
    for condition in conditions.values():
        queryset = queryset.filter(condition)
    return queryset


def values(table: Mapping[str, Filter], request: Request) -> dict[str, Any]:
    """Return the parsed values of the parameters given, for views that are no lists; raises Malformed."""
    refuse_unknown(request, table)
    return parsed(table, request, read)


def parsed(table: Mapping[str, Filter], request: Request, use: Callable[[Filter, list[str]], Any]) -> dict[str, Any]:
    """Return what `use` makes of each parameter given; raises Malformed with one entry per bad one."""
    return parsed_lists(table, dict(request.query_params.lists()), use)


def parsed_lists(
    table: Mapping[str, Filter], given: Mapping[str, list[str]], use: Callable[[Filter, list[str]], Any]
) -> dict[str, Any]:
    """Return what `use` makes of each filter of the table that has values in `given`; raises Malformed likewise."""
    found, errors = {}, []
    for name in table.keys() & given.keys():
        try:
            found[name] = use(table[name], given[name])
        except ValueError as exc:
            errors.append({"field": name, "code": "invalid", "detail": str(exc)})
    if errors:
        raise Malformed(f"{errors[0]['field']}: {errors[0]['detail']}", errors=errors)
    return found


def read(found: Filter, given: list[str]) -> Any:
    """Return the parsed value (a list if the filter takes many); raises ValueError."""
    if any("\0" in value or len(value) > MAX_LENGTH for value in given):
        raise ValueError(f"must be of at most {MAX_LENGTH} characters, none of them NUL.")
    if not found.many:
        if len(given) > 1:
            raise ValueError("takes one value.")
        return found.parse(_present(given[0]))
    values = [part.strip() for value in given for part in value.split(",")]
    if len(values) > MAX_CHOICES:
        raise ValueError(f"takes at most {MAX_CHOICES} values.")
    return [found.parse(_present(value)) for value in values]


def _present(value: str) -> str:
    if not value:
        raise ValueError("must not be empty.")
    return value


def documented(table: Mapping[str, Filter]) -> list[OpenApiParameter]:
    """Return a table as parameters for `extend_schema`, for views that are no lists."""
    return [OpenApiParameter(name, dict(found.schema), description=found.description) for name, found in table.items()]


def describe(name: str, found: Filter) -> dict[str, Any]:
    """Return the OpenAPI parameter of a filter."""
    schema = {"type": "array", "items": dict(found.schema)} if found.many else dict(found.schema)
    parameter = {"name": name, "in": "query", "required": False, "schema": schema, "description": found.description}
    return parameter | ({"style": "form", "explode": False} if found.many else {})


@JSONField.register_lookup
class HasMember(HasKey):
    """`tags__has_member="x"`: the JSON list has this text in it, on both databases.

    PostgreSQL's own `?` operator does that already; SQLite's lookup knows keys only.
    """

    lookup_name = "has_member"

    def as_sqlite(self, compiler: Any, connection: Any, template: str | None = None) -> tuple[str, tuple[Any, ...]]:
        column, params = self.process_lhs(compiler, connection)
        # `column` is the compiler's own text, the value a parameter.
        sql = f"EXISTS (SELECT 1 FROM json_each({column}) WHERE json_each.value = %s)"  # noqa: S608
        return sql, (*params, str(self.rhs))
