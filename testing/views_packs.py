"""The pages of packs: what there is, and one with what it needs, to run against one's systems or make a suite of."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError, NotFound
from messaging.admin.lists import page_context
from testing.packs.documents import PackSuite, find
from testing.services import packs, suites
from testing.services.runs import Wish

STEPS = ("run", "install")


@require_GET
def list_page(request: HttpRequest) -> HttpResponse:
    """Show the packs, each with what it needs and the suites that were made of it."""
    principal = require(request, "packs", "list")
    context = page_context(request, "Packs", packs=packs.listed(principal), opts=None)
    return TemplateResponse(request, "controlplane/packs.html", context)


@require_http_methods(["GET", "POST"])
def pack_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show one pack; posted, run it or install it, and land on the run or the suite."""
    principal = require(request, "packs", "retrieve")
    found = _found(name)
    error = ""
    if request.method == "POST":
        step = request.POST.get("step") if request.POST.get("step") in STEPS else "run"
        by = require(request, "packs", str(step))
        try:
            return _run(request, found, by) if step == "run" else _install(request, found, by)
        except ControlPlaneError as exc:
            error = exc.detail
    return _page(request, found, principal, error)


def _page(request: HttpRequest, found: PackSuite, principal: Principal, error: str) -> HttpResponse:
    described = packs.described(found, principal)
    given = _systems(request.POST, found)
    offered = packs.offered(found, principal)
    context = page_context(
        request,
        described["title"],
        subtitle=f"pack {found.name}",
        pack=described,
        targets=[
            {**target, "offered": offered[target["alias"]], "given": given.get(target["alias"], "")}
            for target in described["targets"]
        ],
        slug=request.POST.get("slug", ""),
        lines=list(enumerate(found.suite.text.splitlines(), start=1)),
        teams=list(suites.owners(principal).values_list("name", flat=True)),
        may_choose_none=principal.team_ids is None,
        may_run=may(request, "packs", "run"),
        may_install=may(request, "packs", "install"),
        error=error,
        opts=None,
    )
    return TemplateResponse(request, "controlplane/pack.html", context, status=422 if error else 200)


def _run(request: HttpRequest, found: PackSuite, by: Principal) -> HttpResponse:
    systems = _systems(request.POST, found)
    wish = Wish(systems=systems, allow_production=request.POST.get("allow_production") == "on")
    return redirect("suites:run", packs.start(found.name, wish, by=by).pk)


def _install(request: HttpRequest, found: PackSuite, by: Principal) -> HttpResponse:
    owner = suites.owners(by).filter(name=request.POST.get("owner", "")).first()
    slug = request.POST.get("slug", "").strip()
    made = packs.install(found.name, _systems(request.POST, found), by=by, slug=slug, owner=owner)
    messages.success(request, "It is a suite of yours now: change it, run it, schedule it.")
    return redirect("suites:suite", made.slug)


def _systems(given: Mapping[str, Any], found: PackSuite) -> dict[str, str]:
    """Return what was typed for the aliases; nothing stands for the pack's own."""
    typed = {alias: str(given.get(f"system-{alias}", "")).strip() for alias in found.suite.systems}
    return {alias: name for alias, name in typed.items() if name}


def _found(name: str) -> PackSuite:
    try:
        return find(name)
    except NotFound as exc:
        raise Http404(exc.detail) from exc


_view = admin.site.admin_view
urlpatterns = [
    path("packs/", _view(list_page), name="packs"),
    path("packs/<slug:name>/", _view(pack_page), name="pack"),
]
