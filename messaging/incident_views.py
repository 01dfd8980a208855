"""The pages of incidents: what is broken now, what was, and one incident as the landing point of its notice."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_POST

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.edge.walks import Order, Walk
from endpoints.errors import ControlPlaneError
from endpoints.models import NoticeTarget
from endpoints.services import notices
from messaging.admin.lists import Browser, page_context, read_page, system_slugs
from messaging.conf import CAUSES
from messaging.filters import INCIDENTS
from messaging.services import incidents
from messaging.store import now as database_now

MOST_OPEN = 200


def _walk(given: Any, principal: Principal, order: Order) -> Walk:
    return Walk()


HISTORY = Browser("opened_at", INCIDENTS, _walk)


def incidents_page(request: HttpRequest) -> HttpResponse:
    """Show what is open, then what was; and who is told."""
    principal = require(request, "incidents", "list")
    is_filtered = any(request.GET.get(name, "").strip() for name in INCIDENTS)
    past = incidents.incidents(principal)
    page = read_page(request, past if is_filtered else past.filter(resolved_at__isnull=False), HISTORY)
    targets = list(NoticeTarget.objects.visible_to(principal).select_related("team"))
    context = page_context(
        request,
        "Incidents",
        now=database_now(),
        open_ones=[] if is_filtered else list(incidents.open_incidents(principal)[:MOST_OPEN]),
        is_filtered=is_filtered,
        page=page,
        systems=system_slugs(principal),
        causes=CAUSES,
        targets=[(target, notices.problem_of(target)) for target in targets],
        is_anybody_told=bool(targets) or incidents.has_targets(),
        may_edit=may(request, "notice-targets", "create"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/incidents.html", context)


def incident_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one incident: what is broken, since when, why, and what can be done right here."""
    principal = require(request, "incidents", "retrieve")
    row = get_object_or_404(incidents.incidents(principal), pk=pk)
    detail = incidents.detail(row, principal)
    context = page_context(
        request,
        f"Incident: {row.label}",
        incident=row,
        detail=detail,
        parent=incidents.incidents(principal).filter(pk=row.parent_id).first() if row.parent_id else None,
        now=database_now(),
        interface=row.facts.get("interface", ""),
        may_pause=may(request, "endpoints", "pause"),
        may_act=may(request, "deliveries", "resend"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/incident.html", context)


@require_POST
def test_target(request: HttpRequest, pk: str) -> HttpResponse:
    """Send a test notice, and say so on the list of targets."""
    principal = require(request, "notice-targets", "test")
    target = get_object_or_404(NoticeTarget.objects.visible_to(principal), pk=pk)
    try:
        notices.test_target(target, by=principal)
        messages.success(request, f"A test notice to {target} is on its way; if it cannot go out, the list says why.")
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("pages:incidents")
