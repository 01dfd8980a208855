"""The pages of suites: all of them, one with its cases, runs and versions, and many in and out as files."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.edge.walks import Walk
from endpoints.errors import ControlPlaneError, Malformed, NotFound
from endpoints.models import System
from messaging.admin.lists import Browser, page_context, read_page
from testing.document.reader import MAX_BYTES
from testing.document.suite import Step
from testing.document.suite import Suite as Document
from testing.documents_api import zipped
from testing.errors import BadDocument
from testing.filters import SUITES
from testing.models import Run, Suite, SuiteVersion
from testing.services import documents, runs, suites
from testing.services.runs import Wish

RECENT = 10
MOST_VERSIONS = 200
MOST_LINES = 3000


@dataclass(frozen=True)
class Named(Browser):
    """The list of suites, by their names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "orderings", {"slug": "slug"})


BROWSER = Named("slug", SUITES, lambda given, principal, order: Walk(checks=False), default_ordering="slug")


@require_GET
def list_page(request: HttpRequest) -> HttpResponse:
    """Show one page of suites, each with how it ended last."""
    principal = require(request, "suites", "list")
    rows = (
        _with_last_run(Suite.objects.visible_to(principal), principal).select_related("owner", "schedule").defer("text")
    )
    page = read_page(request, rows, BROWSER)
    context = page_context(
        request,
        "Suites",
        page=page,
        may_write=may(request, "suites", "create"),
        may_draft=may(request, "suites", "draft"),
        may_run=may(request, "suites", "run"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/suites.html", context)


@require_GET
def suite_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one suite: what it tests, how its last runs ended, and its text."""
    principal = require(request, "suites", "retrieve")
    suite = _suite(request, slug)
    document, fault = _read(suite)
    recent = Run.objects.visible_to(principal).filter(slug=suite.slug).select_related("document").slim().order_by("-id")
    lines = suite.text.splitlines()
    slugs = {name.partition("/")[0] for name in document.systems.values()} if document else set()
    context = page_context(
        request,
        suite.title or suite.slug,
        subtitle=suite.slug,
        suite=suite,
        document=document,
        fault=fault,
        cases=[(case, ", ".join(_kinds(case.steps))) for case in document.cases] if document else [],
        lines=list(enumerate(lines[:MOST_LINES], start=1)),
        more_lines=max(0, len(lines) - MOST_LINES),
        known=set(System.objects.visible_to(principal).filter(slug__in=slugs).values_list("slug", flat=True)),
        systems=[(alias, name, name.partition("/")[0]) for alias, name in document.systems.items()] if document else [],
        recent=list(recent[:RECENT]),
        may_write=may(request, "suites", "update"),
        may_delete=may(request, "suites", "destroy"),
        may_run=may(request, "suites", "run"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/suite.html", context)


@require_POST
def run_suite(request: HttpRequest, slug: str) -> HttpResponse:
    """Start a run, of all cases or of one, and land on its page."""
    by = require(request, "suites", "run")
    suite = _suite(request, slug)
    wish = Wish(
        cases=[name for name in request.POST.getlist("case") if name],
        allow_production=request.POST.get("allow_production") == "on",
    )
    try:
        return redirect("suites:run", runs.start(suite, wish, by=by).pk)
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("suites:suite", suite.slug)


@require_GET
def versions_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show what was saved of a suite, and what two versions differ in."""
    suite = _suite(request, slug)
    rows: list[SuiteVersion] = list(documents.versions(suite).defer("text")[:MOST_VERSIONS])
    after = _number(request, "to", suite.version)
    before = _number(request, "from", after - 1)
    try:
        new = documents.version(suite, after)
        old = documents.version(suite, before) if before else None
    except NotFound as error:
        messages.error(request, error.detail)
        return redirect("suites:versions", suite.slug)
    context = page_context(
        request,
        f"Versions of {suite.slug}",
        subtitle=suite.title,
        suite=suite,
        versions=rows,
        before=before,
        after=after,
        lines=documents.difference(old.text if old else "", new.text),
        may_write=may(request, "suites", "update"),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/suite_versions.html", context)


@require_GET
def document_file(request: HttpRequest, slug: str) -> HttpResponse:
    """Hand out a suite as a file, byte for byte."""
    require(request, "suites", "retrieve")
    suite = _suite(request, slug)
    name = f'attachment; filename="{documents.file_name(suite)}"'
    headers = {"Content-Disposition": name}
    return HttpResponse(suite.text.encode(), content_type="application/octet-stream", headers=headers)


@require_GET
def export_file(request: HttpRequest) -> HttpResponse:
    """Hand out all suites as one file."""
    return zipped(Suite.objects.visible_to(require(request, "suites", "export")).order_by("slug"))


@require_http_methods(["GET", "POST"])
def import_page(request: HttpRequest) -> HttpResponse:
    """Take suites from files: all of them, or none when one has a fault; at will only say what would be done."""
    principal = require(request, "suites", "import_documents")
    errors: list[str] = []
    done: list[documents.Taken] = []
    dry_run = request.POST.get("dry_run") == "on"
    if request.method == "POST":
        owner = suites.owners(principal).filter(name=request.POST.get("owner", "")).first()
        try:
            done = documents.take(_uploaded(request), by=principal, owner=owner, dry_run=dry_run)
        except ControlPlaneError as error:
            errors = [documents.told(fault) for fault in error.errors] or [error.detail]
    context = page_context(
        request,
        "Import suites",
        errors=errors,
        done=done,
        dry_run=dry_run,
        teams=list(suites.owners(principal).values_list("name", flat=True)),
        may_choose_none=principal.team_ids is None,
        opts=None,
    )
    return TemplateResponse(request, "controlplane/suite_import.html", context, status=422 if errors else 200)


@require_POST
def delete_suite(request: HttpRequest, slug: str) -> HttpResponse:
    """Delete a suite; its runs are kept."""
    by = require(request, "suites", "destroy")
    suites.delete(_suite(request, slug), by=by)
    messages.success(request, f"{slug} is deleted; its runs are kept.")
    return redirect("suites:suites")


def _suite(request: HttpRequest, slug: str) -> Suite:
    principal = require(request, "suites", "retrieve")
    found: Suite = get_object_or_404(Suite.objects.visible_to(principal).select_related("owner", "schedule"), slug=slug)
    return found


def _with_last_run(rows: QuerySet[Suite], principal: Principal) -> QuerySet[Any]:
    last = Run.objects.visible_to(principal).filter(slug=OuterRef("slug")).order_by("-id")
    return rows.annotate(
        last_run=Subquery(last.values("pk")[:1]),
        last_verdict=Subquery(last.values("verdict")[:1]),
        last_state=Subquery(last.values("state")[:1]),
        last_at=Subquery(last.values("created_at")[:1]),
    )


def _read(suite: Suite) -> tuple[Document | None, str]:
    """Return what a stored text says; one of an older format may not be read any more."""
    try:
        return suites.check(suite.text), ""
    except BadDocument as exc:
        return None, exc.detail


def _kinds(steps: tuple[Step, ...]) -> list[str]:
    """Return the kinds of steps, each once, in order."""
    return list(dict.fromkeys(step.kind for step in steps))


def _uploaded(request: HttpRequest) -> list[documents.Document]:
    """Return what was given: files, and what was typed; raises Malformed for a file that is no text."""
    found = [documents.Document(str(file.name), _text(file)) for file in request.FILES.getlist("files")]
    typed = request.POST.get("text", "").replace("\r\n", "\n")
    return [*found, documents.Document("typed", typed)] if typed.strip() else found


def _text(file: Any) -> str:
    try:
        return str(file.read(MAX_BYTES + 1), "utf-8")  # what is larger is refused by its first part
    except UnicodeDecodeError as exc:
        raise Malformed(f"{file.name}: is not UTF-8 text") from exc


def _number(request: HttpRequest, name: str, otherwise: int) -> int:
    given = request.GET.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else otherwise


_page = admin.site.admin_view
urlpatterns = [
    path("suites/", _page(list_page), name="suites"),
    path("suites/import/", _page(import_page), name="import"),
    path("suites/export/", _page(export_file), name="export"),
    path("suites/<slug:slug>/", _page(suite_page), name="suite"),
    path("suites/<slug:slug>/run/", _page(run_suite), name="run-suite"),
    path("suites/<slug:slug>/versions/", _page(versions_page), name="versions"),
    path("suites/<slug:slug>/document/", _page(document_file), name="document"),
    path("suites/<slug:slug>/delete/", _page(delete_suite), name="delete"),
]
