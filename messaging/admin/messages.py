"""The browser of messages, and the page that shows the life of one."""

from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from endpoints.edge.model_pages import RoleModelAdmin, may, principal_of, require
from endpoints.errors import Conflict
from messaging import walks
from messaging.admin.lists import Browser, page_context, read_page, system_slugs
from messaging.filters import MESSAGES
from messaging.models import OPEN_STATES, Attempt, Delivery, Message, Priority, State
from messaging.payloads import Shown, shown
from messaging.services import lookup
from messaging.services.curl import curl_line
from messaging.services.order import Head, head_of
from messaging.services.snippets import resend_line
from messaging.services.why import Why, why, why_message

BROWSER = Browser("position", MESSAGES, walks.messages)
MOST_WHYS = 10
PHASES = ("dns", "connect", "tls", "first_byte", "body")


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt as the timeline shows it; bodies only for those who may read them."""

    attempt: Attempt
    phases: list[tuple[str, float, float]]  # name, milliseconds, share in percent
    request_headers: list[tuple[str, str]]
    response_headers: list[tuple[str, str]]
    request_body: Shown | None
    response_body: Shown | None
    curl: str


@dataclass(frozen=True, slots=True)
class Life:
    """One delivery with its tries, and what may be done with it now."""

    delivery: Delivery
    tries: list[Try]
    is_open: bool
    may_resend: bool
    may_cancel: bool
    waits_s: float | None
    head: Head | None  # what it is blocked by
    why: Why | None  # of the first few; a message to everybody has too many to ask after each


@admin.register(Message)
class MessageAdmin(RoleModelAdmin):
    """Messages are immutable: read here, sent by the send form or the API."""

    resource: ClassVar[str] = "messages"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        payload = path("<int:position>/payload/", wrap(self.payload_view), name="messaging_message_payload")
        return [payload, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show one page of messages, newest first."""
        principal = require(request, self.resource, "list")
        page = read_page(request, lookup.messages(principal), BROWSER)
        context = page_context(request, "Messages", page=page, systems=system_slugs(principal), opts=None)
        return TemplateResponse(request, "controlplane/messages.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a message's life: its deliveries, every try of each, what was sent and what came back."""
        principal = require(request, self.resource, "retrieve")
        readable = may(request, self.resource, "read_payload")
        message = self._message(request, object_id, with_payload=readable)
        payload = lookup.view_payload(message, by=principal) if readable else None
        rows = list(message.deliveries.all())
        asked = {delivery.pk for delivery in sorted(rows, key=_is_settled)[:MOST_WHYS]}
        shown_payload = payload if readable else None
        lives = [self._life(request, row, shown_payload, is_asked=row.pk in asked) for row in rows]
        context = page_context(
            request,
            f"Message {message.event_type or message.message_id}",
            subtitle=message.message_id,
            message=message,
            priority=Priority(message.priority).name.lower(),
            readable=readable,
            removed=readable and payload is None,
            payload=shown(payload, message.content_type) if payload is not None else None,
            curl=resend_line(message, payload) if payload is not None else "",
            lives=lives,
            why=None if rows else why_message(message, principal, timezone.now()),
            may_pause=may(request, "systems", "pause"),
            may_replay=payload is not None and may(request, self.resource, "replay"),
            may_test=payload is not None and may(request, "suites", "draft"),
            link=request.build_absolute_uri(request.path),
            opts=None,
        )
        return TemplateResponse(request, "controlplane/message.html", context)

    def payload_view(self, request: HttpRequest, position: int) -> HttpResponse:
        """Hand out the payload byte for byte, on the record; never in a form the browser would run."""
        principal = require(request, self.resource, "read_payload")
        message = self._message(request, str(position), with_payload=True)
        payload = lookup.view_payload(message, by=principal)
        if payload is None:
            raise Http404("the payload was removed by retention")
        name = f'attachment; filename="message-{position}.bin"'
        return HttpResponse(payload, content_type="application/octet-stream", headers={"Content-Disposition": name})

    def _message(self, request: HttpRequest, object_id: str, *, with_payload: bool) -> Message:
        if not object_id.isascii() or not object_id.isdigit() or len(object_id) > 18:
            raise Http404
        rows: QuerySet[Message] = lookup.messages(principal_of(request), with_payload=with_payload)
        found: Message = get_object_or_404(rows, pk=int(object_id))
        return found

    def _life(self, request: HttpRequest, delivery: Delivery, payload: bytes | None, *, is_asked: bool) -> Life:
        readable = may(request, "attempts", "read_payload")
        is_open = delivery.state in OPEN_STATES
        return Life(
            delivery=delivery,
            tries=[_try(attempt, payload, readable=readable) for attempt in lookup.attempts_of(delivery)],
            is_open=is_open,
            may_resend=not is_open and may(request, "deliveries", "resend"),
            may_cancel=(delivery.state == State.PENDING or delivery.halting) and may(request, "deliveries", "cancel"),
            waits_s=(delivery.due_at - timezone.now()).total_seconds() if is_open else None,
            head=head_of(delivery, principal_of(request)),
            why=why(delivery, principal_of(request), timezone.now()) if is_asked else None,
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _is_settled(delivery: Delivery) -> bool:
    return delivery.state == State.DELIVERED


def _try(attempt: Attempt, payload: bytes | None, *, readable: bool) -> Try:
    request, headers = attempt.request, attempt.response_headers
    content_type = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
    body = bytes(attempt.response_body) if attempt.response_body is not None else None
    return Try(
        attempt=attempt,
        phases=_phases(attempt),
        request_headers=list((request.get("headers") or {}).items()),
        response_headers=list(headers.items()),
        request_body=shown(str(request["body"]).encode()) if readable and request.get("body") else None,
        response_body=shown(body, str(content_type)) if readable and body is not None else None,
        curl=_curl(attempt, payload) if readable else "",
    )


def _phases(attempt: Attempt) -> list[tuple[str, float, float]]:
    known = [(name, float(attempt.phases_ms[name])) for name in PHASES if attempt.phases_ms.get(name)]
    whole = max(attempt.took_ms, sum(ms for _, ms in known)) or 1
    return [(name, ms, 100 * ms / whole) for name, ms in known]


def _curl(attempt: Attempt, payload: bytes | None) -> str:
    try:
        return curl_line(attempt, payload)
    except Conflict:
        return ""
