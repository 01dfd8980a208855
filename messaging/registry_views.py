"""The pages of what is done to a system and its deliveries alike: maintenance, and taking it out of use."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from endpoints import services as registry
from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError
from endpoints.models import Maintenance, System
from messaging.admin.lists import page_context
from messaging.forms import UTC_MINUTE, MaintenanceForm
from messaging.services import maintenance, retirement

USUAL = timedelta(hours=1)
PAST_SHOWN = 10


@require_http_methods(["GET", "POST"])
def maintenance_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the windows of a system, say what a new one would hold, plan it, and end what runs."""
    principal = require(request, "maintenance", "list")
    system = _system(principal, slug)
    now = timezone.now()
    form, seen = _form_at(now), maintenance.preview(system, now, now + USUAL)
    if request.method == "POST":
        asked = request.POST.get("action", "")
        if asked in ON_WINDOW:
            return _on_window(request, system, asked)
        principal = require(request, "maintenance", "create")
        form = MaintenanceForm(_as_utc(request))
        if form.is_valid():
            try:
                found = _plan(system, form.cleaned_data, now, by=principal, is_planned=asked == "plan")
            except ControlPlaneError as error:
                form.add_refusal(error)
            else:
                if isinstance(found, Maintenance):
                    messages.success(request, f"Planned: {found}.")
                    return redirect("pages:maintenance", system.slug)
                seen = found
    windows = Maintenance.objects.filter(system=system)
    context = page_context(
        request,
        f"Maintenance of {system.name}",
        subtitle=system.slug,
        system=system,
        now=now,
        ahead=list(windows.filter(ends_at__gt=now)),
        past=list(windows.filter(ends_at__lte=now).order_by("-ends_at")[:PAST_SHOWN]),
        until=registry.maintained(now, [system]).get(system.pk),
        form=form,
        seen=None if form.errors else seen,
        may_plan=may(request, "maintenance", "create"),
        opts=None,
    )
    status = 422 if form.errors else 200
    return TemplateResponse(request, "controlplane/maintenance.html", context, status=status)


@require_http_methods(["GET", "POST"])
def retire_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Say what retiring a system would end, and do it once that was read; or put it to use again."""
    principal = require(request, "systems", "retire")
    system = _system(principal, slug)
    if request.method == "POST":
        action = request.POST.get("action", "")
        if action not in RETIREMENTS:
            raise PermissionDenied
        service, told = RETIREMENTS[action]
        try:
            service(system, by=principal)
            messages.success(request, f"{system} {told}.")
        except ControlPlaneError as error:
            messages.error(request, error.detail)
        return redirect("pages:system", system.slug)
    context = page_context(
        request,
        f"Retire {system.name}",
        subtitle=system.slug,
        system=system,
        seen=retirement.preview(system, principal),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/retire.html", context)


RETIREMENTS: dict[str, tuple[Callable[..., Any], str]] = {
    "drain": (lambda system, by: registry.retire(system, drain=True, by=by), "is retired; what waits is still sent"),
    "cancel": (lambda system, by: registry.retire(system, drain=False, by=by), "is retired; what waits is cancelled"),
    "unretire": (registry.unretire, "is active again; its keys stay revoked"),
}


def _system(principal: Principal, slug: str) -> System:
    found: System = get_object_or_404(System.objects.visible_to(principal).select_related("owner"), slug=slug)
    return found


def _plan(
    system: System, given: dict[str, Any], now: datetime, *, by: Principal, is_planned: bool
) -> Maintenance | maintenance.Preview:
    """Return the window, or what it would mean; a start that passed while the form was filled in means now."""
    starts_at = given["starts_at"] if given["starts_at"] > now else None
    if is_planned:
        return registry.plan_maintenance(system, starts_at, given["ends_at"], given["reason"], by=by)
    registry.check_window(starts_at or now, given["ends_at"], given["reason"], now)
    return maintenance.preview(system, starts_at or now, given["ends_at"])


def _form_at(now: datetime) -> MaintenanceForm:
    usual = {"starts_at": now, "ends_at": now + USUAL + timedelta(minutes=1)}
    return MaintenanceForm(initial={name: at.strftime(UTC_MINUTE) for name, at in usual.items()})


def _as_utc(request: HttpRequest) -> dict[str, str]:
    """Return the form's fields, times as the script wrote them in UTC, or as they were typed without it."""
    given = {name: request.POST.get(name, "") for name in ("starts_at", "ends_at", "reason")}
    return given | {
        name: request.POST[f"{name}_utc"] for name in ("starts_at", "ends_at") if request.POST.get(f"{name}_utc")
    }


def _end(window: Maintenance, now: datetime, by: Principal) -> str:
    return "deleted" if registry.end_maintenance(window, by=by) is None else "ended"


def _extend(window: Maintenance, now: datetime, by: Principal) -> str:
    registry.change_maintenance(window, ends_at=window.ends_at + USUAL, by=by)
    return "extended by an hour"


def _end_all(system: System, now: datetime, by: Principal) -> str:
    return "ended" if registry.end_all_maintenance(system, by=by) else "over already"


ON_WINDOW: dict[str, Callable[[Any, datetime, Principal], str]] = {"end": _end, "extend": _extend, "end_all": _end_all}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _on_window(request: HttpRequest, system: System, asked: str) -> HttpResponse:
    principal, now = require(request, "maintenance", "end"), timezone.now()
    target: Any = system
    if asked != "end_all":
        rows = Maintenance.objects.filter(system=system)
        target = get_object_or_404(rows, pk=_uuid(request.POST.get("window", "")))
    try:
        messages.success(request, f"Maintenance {ON_WINDOW[asked](target, now, principal)}.")
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("pages:maintenance", system.slug)
