"""A filtered list as a page: filters in the address, read by keyset, never counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.request import Request

from endpoints.access.principal import Principal
from endpoints.edge.filters import Filter, apply
from endpoints.edge.model_pages import principal_of
from endpoints.edge.pages import KeysetPagination, chosen_order
from endpoints.edge.walks import Order, Walk, read
from endpoints.errors import Malformed
from endpoints.models import System
from messaging.walks import parsed_values

WalkOf = Callable[[Mapping[str, Any], Principal, Order], Walk | None]  # None: a list that is never long
NOT_FILTERS = ("cursor", "page_size", "ordering")
MOST_CHOICES = 300
ALWAYS_SHOWN = frozenset({"q", "state", "reason", "system", "error_class", "message_type", "event_type", "priority"})


@dataclass(frozen=True, slots=True)
class Control:
    """One filter as the form shows it; `choices` makes it a select."""

    name: str
    value: str
    choices: Sequence[str] = ()
    error: str = ""


@dataclass(slots=True)
class ListPage:
    """One page of a list, with its filter controls and where to go on."""

    rows: list[Any]
    controls: dict[str, Control]
    next_url: str | None = None
    previous_url: str | None = None
    query: str = ""
    given: dict[str, str] = field(default_factory=dict)

    @property
    def uses_more(self) -> bool:
        """Say whether a filter is in use, or wrong, that the form keeps folded."""
        return any(name not in ALWAYS_SHOWN for name in self.given)


@dataclass(frozen=True, slots=True)
class Browser:
    """A list as its pages read it, newest first: `path` is what it is ordered by, `walk_of` says along which index."""

    path: str
    table: Mapping[str, Filter]
    walk_of: WalkOf
    orderings: Mapping[str, str] = field(init=False)
    default_ordering: str = "-created"

    def __post_init__(self) -> None:
        object.__setattr__(self, "orderings", {"created": self.path})

    def walk(self, request: Request, order: Order) -> Walk | None:
        return self.walk_of(parsed_values(self.table, request), principal_of(request), order)


def read_page(request: HttpRequest, rows: QuerySet[Any, Any], browser: Browser) -> ListPage:
    """Return the page that the address asks for; a filter that does not parse shows nothing but its error."""
    asked, table = without_blanks(request), browser.table
    errors: dict[str, str] = {}
    pages = KeysetPagination()
    found: list[Any] = []
    try:
        found = pages.paginate_queryset(apply(table, asked, rows), asked, browser)
    except Malformed as error:
        errors = {entry["field"]: entry["detail"] for entry in error.errors}
    given = {name: str(value) for name, value in asked.query_params.items() if name in table}
    links = pages.get_paginated_response([]).data if not errors else {}
    query = asked.query_params.copy()
    for name in NOT_FILTERS:
        query.pop(name, None)
    return ListPage(
        rows=found,
        controls={name: _control(name, table[name], given.get(name, ""), errors.get(name, "")) for name in table},
        next_url=links.get("next"),
        previous_url=links.get("previous"),
        query=query.urlencode(),
        given=given,
    )


def matching(request: HttpRequest, rows: QuerySet[Any, Any], browser: Browser, most: int) -> list[Any]:
    """Return the newest rows that the address's filters select, `most` of them or what one look finds.

    Raises Malformed.
    """
    asked = without_blanks(request)
    order = chosen_order(asked, browser, rows.model)
    return read(apply(browser.table, asked, rows), order, None, most, browser.walk(asked, order)).rows


def without_blanks(request: HttpRequest) -> Request:
    """Return the request as the API's filters read it; a form sends its empty fields too, which mean nothing."""
    query = request.GET.copy()
    for name in list(query):
        values = [value for value in query.getlist(name) if value.strip()]
        if values:
            query.setlist(name, values)
        else:
            del query[name]
    request.GET = query  # type: ignore[assignment]
    request.META["QUERY_STRING"] = query.urlencode()
    return Request(request)


def system_slugs(principal: Principal) -> list[str]:
    """Return the systems to choose from, as many as a select can hold."""
    return list(System.objects.visible_to(principal).values_list("slug", flat=True)[:MOST_CHOICES])


def page_context(request: HttpRequest, title: str, **more: Any) -> dict[str, Any]:
    """Return what every page of ours needs: the frame of the admin and a title."""
    return {**admin.site.each_context(request), "title": title, **more}


def _control(name: str, found: Filter, value: str, error: str) -> Control:
    return Control(name, value, tuple(found.schema.get("enum", ())), error)
