"""The pages of runs: all of them, and one as it goes and as it ended."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError
from messaging.admin.lists import Browser, page_context, read_page
from testing import walks
from testing.filters import RUNS
from testing.models import Run, RunState
from testing.services import runs

BROWSER = Browser("pk", RUNS, walks.runs)
MOST_SUITES = 300


@require_GET
def list_page(request: HttpRequest) -> HttpResponse:
    """Show one page of runs, newest first."""
    principal = require(request, "runs", "list")
    page = read_page(request, Run.objects.visible_to(principal).select_related("document"), BROWSER)
    context = page_context(request, "Runs", page=page, opts=None)
    return TemplateResponse(request, "controlplane/runs.html", context)


@require_GET
def run_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one run: what is wrong first, and all there is to understand it."""
    run = _run(request, pk)
    context = page_context(
        request,
        f"{run.title or run.slug}: run",
        subtitle=str(run.pk),
        run=run,
        is_open=run.state != RunState.ENDED,
        may_cancel=may(request, "runs", "cancel") and run.state != RunState.ENDED,
        opts=None,
    )
    return TemplateResponse(request, "controlplane/run.html", context)


@require_GET
def run_panel(request: HttpRequest, pk: str) -> HttpResponse:
    """Return the moving part of a run's page, which asks for it once a second."""
    return TemplateResponse(request, "controlplane/panels/run.html", {"run": _run(request, pk)})


@require_POST
def cancel_run(request: HttpRequest, pk: str) -> HttpResponse:
    """Ask a run to end."""
    by = require(request, "runs", "cancel")
    run = _run(request, pk)
    try:
        runs.cancel(run, by=by)
        messages.success(request, "It ends within a second; its cleanups still run.")
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("suites:run", run.pk)


def _run(request: HttpRequest, pk: str) -> Run:
    principal = require(request, "runs", "retrieve")
    rows: Any = Run.objects.visible_to(principal).select_related("document", "suite")
    found: Run = get_object_or_404(rows, pk=pk)
    return found


_page = admin.site.admin_view
urlpatterns = [
    path("runs/", _page(list_page), name="runs"),
    path("runs/<uuid:pk>/", _page(run_page), name="run"),
    path("runs/<uuid:pk>/panel/", _page(run_panel), name="run-panel"),
    path("runs/<uuid:pk>/cancel/", _page(cancel_run), name="run-cancel"),
]
