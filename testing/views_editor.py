"""The page that a suite is written on: text with its faults beside their lines, and the reference of the format."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError, NotFound
from endpoints.models import System
from messaging.admin.lists import page_context, system_slugs
from testing.document.guide import guide
from testing.document.suite import Suite as Document
from testing.errors import BadDocument, Fault
from testing.models import Suite
from testing.services import documents, drafts, runs, suites
from testing.services.runs import Wish

TEMPLATE = """\
suite: {slug}
title: What it shows, in words
systems: {{api: {system}}}
cases:
  - case: answers
    steps:
      - id: ask
        http: {{system: api, path: /}}
        assert:
          - {{status: {{lt: 500}}}}
"""
# What a first suite can be made from, by the query of the page: the field of a draft that it fills.
FROM_QUERY = {"delivery": "delivery", "message": "message", "source": "source_system", "system": "system"}


@require_http_methods(["GET", "POST"])
def new_page(request: HttpRequest) -> HttpResponse:
    """Write a new suite: from nothing, or from the draft that the address asks for."""
    principal = require(request, "suites", "create" if request.method == "POST" else "check")
    if request.method == "POST":
        return _act(request, None)
    try:
        text = _draft(request, principal) if set(FROM_QUERY) & set(request.GET) else _template(principal)
    except ControlPlaneError as error:
        messages.error(request, error.detail)
        return redirect("suites:draft")
    return _editor(request, None, text)


@require_http_methods(["GET", "POST"])
def edit_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Write a new version of a suite; `version` in the address begins with an older one."""
    principal = require(request, "suites", "retrieve")
    suite = get_object_or_404(Suite.objects.visible_to(principal), slug=slug)
    if request.method == "POST":
        return _act(request, suite)
    number = request.GET.get("version", "")
    text = suite.text
    if number.isascii() and number.isdigit() and len(number) < 10:
        try:
            text = documents.version(suite, int(number)).text
        except NotFound as error:
            raise Http404(error.detail) from error
    return _editor(request, suite, text)


@require_POST
def check(request: HttpRequest) -> HttpResponse:
    """Return what is wrong with a text, or what it comes to: a part of the page."""
    require(request, "suites", "check")
    return TemplateResponse(request, "controlplane/parts/suite_checked.html", _judged(_typed(request)))


@require_http_methods(["GET", "POST"])
def draft_page(request: HttpRequest) -> HttpResponse:
    """Make a first suite from a curl line, an OpenAPI document or a system, and go on in the editor."""
    principal = require(request, "suites", "draft")
    given = {name: request.POST.get(name, "").strip() for name in ("curl", "openapi", "openapi_url", "system")}
    if request.method == "POST":
        try:
            found = drafts.make({name: text for name, text in given.items() if text}, by=principal)
        except ControlPlaneError as error:
            messages.error(request, error.detail)
        else:
            return _editor(request, None, found.text)
    context = page_context(request, "Make a suite", systems=system_slugs(principal), given=given, opts=None)
    return TemplateResponse(request, "controlplane/suite_draft.html", context)


# --- what the buttons of the editor do -------------------------------------------


def _act(request: HttpRequest, suite: Suite | None) -> HttpResponse:
    name = request.POST.get("action", "")
    if name not in ACTIONS:
        raise PermissionDenied
    text = _kept(_typed(request), suite)
    try:
        return ACTIONS[name](request, suite, text)
    except BadDocument:
        return _editor(request, suite, text, status=422)
    except ControlPlaneError as error:
        messages.error(request, error.detail)
        return _editor(request, suite, text, status=422)


def _check(request: HttpRequest, suite: Suite | None, text: str) -> HttpResponse:
    return _editor(request, suite, text)


def _save(request: HttpRequest, suite: Suite | None, text: str) -> HttpResponse:
    if suite is None:
        principal = require(request, "suites", "create")
        owner = suites.owners(principal).filter(name=request.POST.get("owner", "")).first()
        made = suites.create(text, by=principal, owner=owner)
        messages.success(request, "The suite is stored.")
    else:
        made = suites.change(suite, text, by=require(request, "suites", "update"))
        same = made.version == suite.version
        messages.success(request, "Nothing is different." if same else f"Stored as version {made.version}.")
    return redirect("suites:suite", made.slug)


def _run(request: HttpRequest, suite: Suite | None, text: str) -> HttpResponse:
    """Run the text as it stands, all of it or one case: as the suite's own where it is stored, else as an editor's."""
    principal = require(request, "suites", "run")
    wish = Wish(cases=[name for name in request.POST.getlist("case") if name])
    if suite is not None and suite.text == text:
        made = runs.start(suite, wish, by=principal)
    else:
        made = runs.start_text(text, wish, by=principal)
    return redirect("suites:run", made.pk)


ACTIONS = {"check": _check, "save": _save, "run": _run}


# --- what the page shows ------------------------------------------------------------


def _editor(request: HttpRequest, suite: Suite | None, text: str, status: int = 200) -> HttpResponse:
    principal = require(request, "suites", "check")
    context = page_context(
        request,
        f"Edit {suite.slug}" if suite else "New suite",
        subtitle=suite.title if suite else None,
        suite=suite,
        text=text,
        guide=guide(),
        teams=[] if suite else list(suites.owners(principal).values_list("name", flat=True)),
        may_choose_none=principal.team_ids is None,
        may_save=may(request, "suites", "update" if suite else "create"),
        may_run=may(request, "suites", "run"),
        opts=None,
        **_judged(text),
    )
    return TemplateResponse(request, "controlplane/suite_edit.html", context, status=status)


def _judged(text: str) -> dict[str, Any]:
    """Return the faults of a text, or what it comes to."""
    faults: list[Fault] = []
    document: Document | None = None
    try:
        document = suites.check(text)
    except BadDocument as exc:
        faults = exc.faults
    return {"faults": faults, "document": document, "cases": [case.name for case in document.cases] if document else []}


def _typed(request: HttpRequest) -> str:
    """Return the text with the line ends of this side; browsers send others than they were given."""
    return request.POST.get("text", "").replace("\r\n", "\n").replace("\r", "\n")


def _kept(typed: str, suite: Suite | None) -> str:
    """Return the stored text where only its line ends differ from what was typed: it is kept byte for byte."""
    if suite is not None and suite.text.replace("\r\n", "\n").replace("\r", "\n") == typed:
        return suite.text
    return typed


def _draft(request: HttpRequest, principal: Principal) -> str:
    require(request, "suites", "draft")
    asked = {field: request.GET[name] for name, field in FROM_QUERY.items() if request.GET.get(name)}
    return drafts.make(asked, by=principal).text


def _template(principal: Principal) -> str:
    slugs = list(System.objects.visible_to(principal).values_list("slug", flat=True)[:1])
    return TEMPLATE.format(slug="my-suite", system=slugs[0] if slugs else "a-system")


_page = admin.site.admin_view
urlpatterns = [
    path("suites/new/", _page(new_page), name="new"),
    path("suites/check/", _page(check), name="check"),
    path("suites/draft/", _page(draft_page), name="draft"),
    path("suites/<slug:slug>/edit/", _page(edit_page), name="edit"),
]
