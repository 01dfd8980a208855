"""Cursor pages: every list is read by keyset, so inserts never shift a page and nothing is ever counted.

A view names what it may be ordered by, and every such order is made total by the primary key:

    orderings = {"created_at": "id", "name": "name"}
    default_ordering = "-created_at"

A list too large to look through also says by which `walk` its pages are read, and what an order is
`restricted_by` (only what has ended can be ordered by when it ended):

    restricted_by = {"finished_at": Q(finished_at__isnull=False)}

    def walk(self, request: Request, order: Order) -> Walk: ...

A cursor is the position of one row in one order of one list, signed: one that was
cut, edited or taken from elsewhere is refused as malformed instead of being read.
"""

from collections.abc import Mapping
from typing import Any

from django.core import signing
from django.core.exceptions import ValidationError
from django.db.models import Field, Model, Q
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from endpoints.edge.walks import Cursor, Order, read
from endpoints.errors import Malformed

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_CURSOR_LENGTH = 2000
PARAMETERS = ("cursor", "page_size", "ordering")


def bad_parameter(name: str, detail: str, code: str = "invalid") -> Malformed:
    """Return the 400 that names one query parameter at fault."""
    return Malformed(f"{name}: {detail}", errors=[{"field": name, "code": code, "detail": detail}])


class KeysetPagination(BasePagination):
    """Answers `{"next", "previous", "results"}`; takes `cursor`, `page_size` and `ordering`."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return one page; raises Malformed for a bad cursor, size or ordering."""
        self.url = request.build_absolute_uri()
        self.order = chosen_order(request, view, queryset.model)
        self.codec = CursorCodec(queryset.model, self.order)
        size = page_size(request)
        self.cursor = self.codec.decode(request.query_params.get("cursor"))
        backwards = self.cursor is not None and self.cursor.backwards
        order = self.order.flipped() if backwards else self.order
        queryset = queryset.filter(getattr(view, "restricted_by", {}).get(order.name, Q()))
        walk = view.walk(request, self.order) if hasattr(view, "walk") else None
        found = read(queryset, order, self.cursor, size, walk)
        self.rows, self.end = found.rows, found.end
        if backwards:
            self.rows.reverse()
        self.has_next = backwards or found.more
        self.has_previous = found.more if backwards else self.cursor is not None
        return self.rows

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next(), "previous": self._previous(), "results": data})

    def _next(self) -> str | None:
        return self._link(self.rows[-1:], backwards=False) if self.has_next else None

    def _previous(self) -> str | None:
        return self._link(self.rows[:1], backwards=True) if self.has_previous else None

    def _link(self, rows: list[Any], *, backwards: bool) -> str:
        """Return the link that reads on from the one row given, or from where looking ended that way.

        Without either (all were deleted), the first page's.
        """
        walked = self.cursor is not None and self.cursor.backwards
        if self.end is not None and backwards == walked:
            return replace_query_param(self.url, "cursor", self.codec.encode(*self.end, backwards=backwards))
        if not rows:
            return remove_query_param(self.url, "cursor")
        return replace_query_param(self.url, "cursor", self.codec.encode(*self._place(rows[0]), backwards=backwards))

    def _place(self, row: Model) -> tuple[Any, Any]:
        value: Any = row
        for step in self.order.path.split("__"):
            value = getattr(value, step)
        return value, row.pk

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        names = sorted(view.orderings)
        signed = [sign + name for name in names for sign in ("", "-")]
        size = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE}
        return [
            _parameter("cursor", {"type": "string"}, "Opaque; follow `next` and `previous`."),
            _parameter("page_size", size, "Rows per page."),
            _parameter("ordering", {"type": "string", "enum": signed, "default": view.default_ordering}, "Order."),
        ]


class CursorCodec:
    """Writes and reads the cursors of one order of one list."""

    def __init__(self, model: type[Model], order: Order) -> None:
        self.model = model
        self.order = order
        self.salt = f"cursor:{model._meta.label}:{'-' if order.descending else ''}{order.name}"

    def encode(self, value: Any, pk: Any, *, backwards: bool) -> str:
        plain = [int(backwards), _plain(value), _plain(pk)]
        return signing.dumps(plain, salt=self.salt, compress=False)

    def decode(self, text: str | None) -> Cursor | None:
        """Return the cursor in `text`, None without one; raises Malformed."""
        if text is None:
            return None
        try:
            if len(text) > MAX_CURSOR_LENGTH:
                raise ValueError("too long")
            backwards, value, pk = signing.loads(text, salt=self.salt)
            value = None if value is None else field_at(self.model, self.order.path).to_python(value)
            return Cursor(bool(backwards), value, field_at(self.model, "pk").to_python(pk))
        except (signing.BadSignature, ValidationError, ValueError, TypeError) as exc:
            detail = "is not one of this list in this order; follow `next` and `previous`."
            raise bad_parameter("cursor", detail) from exc


def chosen_order(request: Request, view: Any, model: type[Model]) -> Order:
    """Return the order asked for by `?ordering=`, or the view's own; raises Malformed naming the allowed ones."""
    orderings: Mapping[str, str] = view.orderings
    asked = request.query_params.get("ordering", view.default_ordering)
    name = asked.removeprefix("-")
    if name not in orderings:
        allowed = ", ".join(sorted(orderings))
        raise bad_parameter("ordering", f"must be one of {allowed}, with '-' in front for descending.", "unknown")
    path = orderings[name]
    field = field_at(model, path)
    nullable = field.null and name not in getattr(view, "restricted_by", {})
    return Order(name, "pk" if field.primary_key and "__" not in path else path, asked.startswith("-"), nullable)


def page_size(request: Request) -> int:
    """Return the page size asked for; raises Malformed unless it is a whole number of 1..500."""
    text = request.query_params.get("page_size", str(DEFAULT_PAGE_SIZE))
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_PAGE_SIZE):
        raise bad_parameter("page_size", f"must be a whole number of 1 to {MAX_PAGE_SIZE}.")
    return int(text)


def field_at(model: type[Model], path: str) -> "Field[Any, Any]":
    """Return the model field that `path` ("system__slug", "pk") leads to."""
    if path == "pk":
        return model._meta.pk
    *relations, name = path.split("__")
    for relation in relations:
        model = model._meta.get_field(relation).related_model  # type: ignore[assignment]
    return model._meta.get_field(name)  # type: ignore[return-value]


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it, in a form that the field's `to_python` reads back exactly."""
    if value is None or isinstance(value, int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
