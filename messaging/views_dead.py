"""The workplace of dead letters: every cause with what is known of it; try one, then all, or be done with them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.edge.walks import Walk
from endpoints.errors import ControlPlaneError, Malformed
from messaging.admin.lists import Browser, page_context, read_page, system_slugs
from messaging.filters import DEAD_GROUPS
from messaging.models import ERROR_CLASSES, OPEN_STATES, Attempt, DeadGroup, Delivery, State
from messaging.services import dead_groups

RESOURCE = "dead-groups"
LONGEST_NOTE = 2000
SHOWN_BYTES = 1500


@dataclass(frozen=True)
class Groups(Browser):
    """The list of causes: the latest first, or the largest."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "orderings", {"last": "last_at", "count": "count"})


BROWSER = Groups("last_at", DEAD_GROUPS, lambda given, principal, order: Walk(checks=False), default_ordering="-last")
ORDERS = (("-last", "Latest first"), ("-count", "Most first"))


@dataclass(frozen=True, slots=True)
class Tried:
    """The one that was sent again to see whether the cause is gone, and what came of it so far."""

    delivery: Delivery
    attempt: Attempt | None

    @property
    def is_open(self) -> bool:
        return self.delivery.state in OPEN_STATES

    @property
    def has_failed(self) -> bool:
        """Say whether the try ended without success; another one may be due."""
        again = self.delivery.state == State.PENDING and self.delivery.reason in ("retrying", "breaker", "throttled")
        return again or self.delivery.state in (State.DEAD, State.EXPIRED, State.CANCELLED)


def groups_page(request: HttpRequest) -> HttpResponse:
    """Show the causes that something is dead of; with `resolved=true` those that are done with."""
    principal = require(request, RESOURCE, "list")
    rows = dead_groups.groups(principal)
    page = read_page(request, rows if "resolved" in request.GET else rows.filter(count__gt=0), BROWSER)
    context = page_context(
        request,
        "Dead letters",
        page=page,
        systems=system_slugs(principal),
        classes=ERROR_CLASSES,
        orders=ORDERS,
        order=request.GET.get("ordering", ORDERS[0][0]),
        unresolved=dead_groups.unresolved(principal),
        ungrouped=dead_groups.ungrouped(principal),
        now=timezone.now(),
        **_allowed(request),
    )
    return TemplateResponse(request, "controlplane/dead_letters.html", context)


def group_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show one cause with its newest dead letters; `tried` names the one that was sent again alone."""
    principal = require(request, RESOURCE, "retrieve")
    group = get_object_or_404(dead_groups.groups(principal), pk=pk)
    examples = list(dead_groups.examples(group, principal))
    context = page_context(
        request,
        f"Dead letters of {group.system.slug}/{group.interface}",
        group=group,
        examples=examples,
        answer=_answer(examples, principal),
        tried=_tried(request, group, principal),
        longest_note=LONGEST_NOTE,
        may_test=may(request, "suites", "draft"),
        now=timezone.now(),
        **_allowed(request),
    )
    return TemplateResponse(request, "controlplane/dead_group.html", context)


@require_POST
def act_on_group(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Do one of ACTIONS to a cause, and go on where it says."""
    name = request.POST.get("action", "")
    if name not in ACTIONS:
        raise PermissionDenied
    principal = require(request, RESOURCE, name)
    group = get_object_or_404(dead_groups.groups(principal), pk=pk)
    try:
        return HttpResponseRedirect(ACTIONS[name](request, group, principal))
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("pages:dead-group", group.pk)


def _try_one(request: HttpRequest, group: DeadGroup, principal: Principal) -> str:
    tried = dead_groups.try_one(group, by=principal)
    return f"{reverse('pages:dead-group', args=[group.pk])}?tried={tried.pk}"


def _resolve(request: HttpRequest, group: DeadGroup, principal: Principal) -> str:
    done = dead_groups.resolve_all(group, by=principal)
    if done.resolved:
        messages.success(request, f"{done.resolved:,} resolved.")
    if done.halting:
        messages.warning(
            request, f"{done.halting:,} hold up their ordering key: each must be sent again or skipped on its own page."
        )
    if done.job:
        messages.success(request, "They are many: a job resolves them, and can be paused or cancelled.")
        return reverse("pages:job", args=[done.job])
    return reverse("pages:dead-group", args=[group.pk]) if done.left else _back(request)


def _note(request: HttpRequest, group: DeadGroup, principal: Principal) -> str:
    text = request.POST.get("note", "").replace("\r\n", "\n").strip()
    if len(text) > LONGEST_NOTE or "\0" in text:
        raise Malformed(f"a note has at most {LONGEST_NOTE:,} characters")
    dead_groups.note(group, text, by=principal)
    messages.success(request, "The note is kept." if text else "The note is gone.")
    return reverse("pages:dead-group", args=[group.pk])


ACTIONS = {"try_one": _try_one, "resolve": _resolve, "note": _note}


def _tried(request: HttpRequest, group: DeadGroup, principal: Principal) -> Tried | None:
    """Return the delivery that the address names, if it is one of this interface's."""
    try:
        wanted = UUID(request.GET.get("tried", ""))
    except ValueError:
        return None
    rows = Delivery.objects.visible_to(principal).filter(system=group.system, interface=group.interface)
    delivery = rows.select_related("message").defer("message__payload").filter(pk=wanted).first()
    if delivery is None:
        return None
    return Tried(delivery, Attempt.objects.filter(delivery=delivery).order_by("-number", "-id").first())


def _answer(examples: list[Any], principal: Principal) -> str:
    """Return the beginning of what the receiver said to the newest of them, for those who may read payloads."""
    if not examples or not principal.may("operator"):
        return ""
    last = Attempt.objects.filter(delivery=examples[0]).order_by("-number", "-id").first()
    return bytes(last.response_body or b"")[:SHOWN_BYTES].decode("utf-8", "replace") if last else ""


def _allowed(request: HttpRequest) -> dict[str, bool]:
    return {f"may_{name}": may(request, RESOURCE, name) for name in ACTIONS}


def _back(request: HttpRequest) -> str:
    """Return the address to go back to, one of ours."""
    wanted = request.POST.get("back", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours and wanted.startswith("/admin/") else reverse("pages:dead-letters")


_page = admin.site.admin_view
urlpatterns = [
    path("dead-letters/", _page(groups_page), name="dead-letters"),
    path("dead-letters/<uuid:pk>/", _page(group_page), name="dead-group"),
    path("dead-letters/<uuid:pk>/act/", _page(act_on_group), name="act_on_dead_group"),
]
