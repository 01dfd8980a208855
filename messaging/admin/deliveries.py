"""The browser of deliveries, and sending again or cancelling many of them."""

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from endpoints.edge.model_pages import RoleModelAdmin, may, principal_of, require
from endpoints.errors import ControlPlaneError, Malformed
from messaging import walks
from messaging.admin.lists import Browser, matching, page_context, read_page, system_slugs
from messaging.filters import DELIVERIES
from messaging.models import Delivery
from messaging.services import deliveries as services

MOST_AT_ONCE = 1000
BROWSER = Browser("message_id", DELIVERIES, walks.deliveries)
# What can be done with many deliveries: the service, its name on buttons, and what it tells afterwards.
ACTIONS = {
    "resend": (services.resend, "Send again", "will be sent again"),
    "cancel": (services.cancel, "Cancel", "cancelled"),
}


@admin.register(Delivery)
class DeliveryAdmin(RoleModelAdmin):
    """Deliveries are read and acted on, never edited: their states change in one place only."""

    resource: ClassVar[str] = "deliveries"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("act/", wrap(self.act_view), name="messaging_delivery_act"),
            path("<uuid:pk>/act/", wrap(self.act_one_view), name="messaging_delivery_act_one"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show one page of deliveries, newest first."""
        principal = require(request, self.resource, "list")
        page = read_page(request, _shown(self, request), BROWSER)
        context = page_context(
            request,
            "Deliveries",
            page=page,
            systems=system_slugs(principal),
            may_act=may(request, self.resource, "resend"),
            most=MOST_AT_ONCE,
            opts=None,
        )
        return TemplateResponse(request, "controlplane/deliveries.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A delivery has no page of its own: go to it on the page of its message."""
        require(request, self.resource, "retrieve")
        delivery = get_object_or_404(self.get_queryset(request).filter(pk=self._pk_or_none(object_id)))
        return redirect(_page_of(delivery))

    def act_view(self, request: HttpRequest) -> HttpResponse:
        """Do one action to the chosen deliveries, after a page that says to how many."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = request.POST.get("action", "")
        if name not in ACTIONS:
            messages.warning(request, "Choose what to do with the chosen deliveries.")
            return _back_to_list(request)
        require(request, self.resource, name)
        chosen = self._chosen(request)
        if not chosen:
            messages.warning(request, "No delivery is chosen.")
            return _back_to_list(request)
        if "confirmed" not in request.POST:
            return self._confirm(request, name, chosen)
        self._act(request, name, chosen)
        return _back_to_list(request)

    def act_one_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Do one action to one delivery, from the page of its message."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = request.POST.get("action", "")
        if name not in ACTIONS:
            raise PermissionDenied
        require(request, self.resource, name)
        delivery = get_object_or_404(self.get_queryset(request).select_related("system", "source"), pk=pk)
        self._act(request, name, [delivery])
        return redirect(_page_of(delivery))

    def _chosen(self, request: HttpRequest) -> list[Any]:
        rows = self.get_queryset(request).select_related("system", "source")
        try:
            if request.POST.get("all") == "1":
                return matching(request, rows, BROWSER, MOST_AT_ONCE)
            ids = [pk for pk in map(self._pk_or_none, request.POST.getlist("id")[:MOST_AT_ONCE]) if pk]
        except Malformed:
            return []
        return list(rows.filter(pk__in=ids).order_by("-pk"))

    def _confirm(self, request: HttpRequest, name: str, chosen: list[Any]) -> HttpResponse:
        counts: dict[tuple[str, str], int] = {}
        for delivery in chosen:
            key = (f"{delivery.system.slug}/{delivery.interface}", delivery.state)
            counts[key] = counts.get(key, 0) + 1
        context = page_context(
            request,
            f"{ACTIONS[name][1]}?",
            action=name,
            verb=ACTIONS[name][1],
            counts=sorted((*key, count) for key, count in counts.items()),
            total=len(chosen),
            ids=[delivery.pk for delivery in chosen],
            back=_list_url(request),
        )
        return TemplateResponse(request, "controlplane/confirm.html", context)

    def _act(self, request: HttpRequest, name: str, chosen: list[Any]) -> None:
        service, verb, told = ACTIONS[name]
        done, refusals = 0, []
        for delivery in chosen:
            try:
                service(delivery, by=principal_of(request))
                done += 1
            except ControlPlaneError as error:
                refusals.append(error.detail)
        if done:
            messages.success(request, f"{done:,} {'delivery' if done == 1 else 'deliveries'} {told}.")
        if refusals:
            messages.error(request, f"{verb}: {len(refusals):,} refused, the first because: {refusals[0]}")

    def _pk_or_none(self, text: str) -> Any:
        return self.model._meta.pk.to_python(text) if len(text) == 36 and text.count("-") == 4 else None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _shown(page: DeliveryAdmin, request: HttpRequest) -> Any:
    """Return the rows with what the list shows of each, and no payload."""
    return (
        page.get_queryset(request)
        .select_related("message", "system", "source")
        .only(
            "state",
            "reason",
            "error_class",
            "error",
            "attempts",
            "max_attempts",
            "due_at",
            "created_at",
            "finished_at",
            "interface",
            "priority",
            "ack_level",
            "system__slug",
            "source__slug",
            "message__message_id",
            "message__event_type",
            "message__message_type",
            "message__size",
        )
    )


def _page_of(delivery: Any) -> str:
    return reverse("admin:messaging_message_change", args=[delivery.message_id]) + f"#{delivery.pk}"


def _list_url(request: HttpRequest) -> str:
    query = urlencode([(name, value) for name in request.GET for value in request.GET.getlist(name)])
    return reverse("admin:messaging_delivery_changelist") + (f"?{query}" if query else "")


def _back_to_list(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(_list_url(request))
