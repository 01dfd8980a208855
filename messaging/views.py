"""The pages that are no model's list: a system with its traffic and how to connect it, and the send form."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from endpoints import services as registry
from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError
from endpoints.models import Endpoint, System
from messaging import incident_views, views_dead, views_edit, views_jobs, views_stream
from messaging.admin.lists import page_context
from messaging.find import find_page
from messaging.forms import SendForm
from messaging.models import Delivery, Message, State
from messaging.registry_views import maintenance_page, retire_page
from messaging.services import connecting, sending, snippets
from messaging.services.overview import grouped, open_backlog, traffic

RECENT = 8
# What may be switched on a page: the service, and how its success reads.
SWITCHES = {"pause": (registry.pause, "is paused"), "resume": (registry.resume, "is resumed")}


def system_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one system: its endpoints, its traffic, what waits for it, and how to connect it."""
    principal = require(request, "systems", "retrieve")
    system = get_object_or_404(System.objects.visible_to(principal).select_related("owner"), slug=slug)
    now = timezone.now()
    backlog = open_backlog(principal, now, system)
    minutes = traffic(principal, now, system)
    recent = Delivery.objects.visible_to(principal).filter(system=system).select_related("message", "source")
    endpoints = list(system.endpoints.select_related("credential", "inbox"))
    context = page_context(
        request,
        system.name,
        subtitle=system.slug,
        system=system,
        now=now,
        endpoints=endpoints,
        minutes=minutes,
        accepted=sum(minute.accepted for minute in minutes),
        delivered=sum(minute.delivered for minute in minutes),
        waiting=sum(row.count for row in backlog if row.state == State.PENDING),
        sending=sum(row.count for row in backlog if row.state == State.SENDING),
        dead=sum(row.count for row in backlog if row.state == State.DEAD),
        reasons=grouped(backlog, State.PENDING, "interface", "reason"),
        died=grouped(backlog, State.DEAD, "interface", "error_class"),
        recent=recent.defer("message__payload").order_by("-message_id", "-id")[:RECENT],
        sends=snippets.sending(system),
        raw=snippets.sending_raw(system),
        receptions=connecting.receiving(system, endpoints),
        maintained_until=registry.maintained(now, [system]).get(system.pk),
        next_maintenance=system.maintenances.filter(starts_at__gt=now).first(),
        may_pause=may(request, "systems", "pause"),
        may_retire=may(request, "systems", "retire"),
        may_edit=may(request, "systems", "update"),
        may_send=may(request, "messages", "create"),
        may_test=may(request, "suites", "draft"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/system.html", context)


@require_POST
def switch_system(request: HttpRequest, slug: str) -> HttpResponse:
    """Pause or resume a whole system."""
    principal = require(request, "systems", _asked(request))
    system = get_object_or_404(System.objects.visible_to(principal), slug=slug)
    return _switch(request, system, system)


@require_POST
def switch_endpoint(request: HttpRequest, pk: str) -> HttpResponse:
    """Pause or resume one endpoint."""
    principal = require(request, "endpoints", _asked(request))
    endpoint = get_object_or_404(Endpoint.objects.visible_to(principal).select_related("system"), pk=pk)
    return _switch(request, endpoint, endpoint.system)


@require_http_methods(["GET", "POST"])
def send_page(request: HttpRequest) -> HttpResponse:
    """Send one message by hand, and land on its page."""
    principal = require(request, "messages", "create")
    initial = {name: request.GET[name] for name in ("source", "target", "event_type") if name in request.GET}
    form = SendForm(request.POST or None, principal=principal, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            accepted = sending.send(form.envelope(), by=principal)
        except ControlPlaneError as error:
            form.add_refusal(error)
        else:
            message = get_object_or_404(
                Message.objects.only("pk"), message_id=accepted.message_id, source__slug=form.cleaned_data["source"]
            )
            messages.success(request, "Accepted: it is stored and on its way.")
            return redirect("admin:messaging_message_change", message.pk)
    context = page_context(request, "Send a message", form=form, opts=None)
    status = 422 if form.is_bound else 200
    return TemplateResponse(request, "controlplane/send.html", context, status=status)


def _asked(request: HttpRequest) -> str:
    """Return the switch that was asked for; raises PermissionDenied for what is none."""
    action = request.POST.get("action", "")
    if action not in SWITCHES:
        raise PermissionDenied
    return action


def _switch(request: HttpRequest, party: Any, system: System) -> HttpResponse:
    action = _asked(request)
    service, told = SWITCHES[action]
    given = {"reason": request.POST.get("reason", "").strip()[:500]} if action == "pause" else {}
    try:
        service(party, by=require(request, "systems", "retrieve"), **given)
        messages.success(request, f"{party} {told}.")
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    try:  # it was asked for on the page of an incident
        return redirect("pages:incident", UUID(request.POST.get("incident", "")))
    except ValueError:
        return redirect("pages:system", system.slug)


_page = admin.site.admin_view
app_name = "pages"
urlpatterns = [
    path("systems/<slug:slug>/", _page(system_page), name="system"),
    path("systems/<slug:slug>/switch/", _page(switch_system), name="switch_system"),
    path("systems/<slug:slug>/maintenance/", _page(maintenance_page), name="maintenance"),
    path("systems/<slug:slug>/retire/", _page(retire_page), name="retire"),
    path("endpoints/<uuid:pk>/switch/", _page(switch_endpoint), name="switch_endpoint"),
    path("send/", _page(send_page), name="send"),
    path("find/", _page(find_page), name="find"),
    *views_jobs.urlpatterns,
    *views_edit.urlpatterns,
    *views_dead.urlpatterns,
    *views_stream.urlpatterns,
    path("incidents/", _page(incident_views.incidents_page), name="incidents"),
    path("incidents/<uuid:pk>/", _page(incident_views.incident_page), name="incident"),
    path("incidents/<uuid:pk>/drain/", _page(incident_views.drain_incident), name="incident-drain"),
    path("notice-targets/<uuid:pk>/test/", _page(incident_views.test_target), name="notice-test"),
]
