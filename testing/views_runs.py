"""The pages of runs: all of them, one as it goes and as it ended, and one case of it with all that was seen."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError
from messaging.admin.lists import Browser, page_context, read_page
from testing import walks
from testing.document import secret_names
from testing.filters import RUNS
from testing.models import TELLING, CaseRun, Run, RunState, Verdict
from testing.reports import FORMATS
from testing.services import failures, parties, reruns, runs, trends

BROWSER = Browser("pk", RUNS, walks.runs)
FOLDED = ("system", "flaky", "dirty", "created_after", "created_before")
PAGE = 100  # cases
SO_FAR = 10  # of those that did not pass, while it runs


@require_GET
def list_page(request: HttpRequest) -> HttpResponse:
    """Show one page of runs, newest first."""
    principal = require(request, "runs", "list")
    page = read_page(request, Run.objects.visible_to(principal).slim(), BROWSER)
    context = page_context(
        request,
        "Runs",
        page=page,
        truths=("true", "false"),
        uses_more=any(name in FOLDED for name in page.given),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/runs.html", context)


@require_GET
def run_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one run: what went wrong first, and all there is to understand it."""
    run, principal = _run(request, pk)
    is_open = run.state != RunState.ENDED
    failure = None if is_open else failures.first_failure(run, principal)
    context = page_context(
        request,
        f"{run.title or run.slug}",
        subtitle=f"run of {run.slug}",
        run=run,
        is_open=is_open,
        failure=failure,
        others=None if is_open else failures.others(run, failure.case.row if failure else None),
        lost_in=[] if is_open else run.in_hand,
        loads=[] if is_open else failures.loads(run),
        given=secret_names.shown(run.vars),
        parties=parties.of_run(run, principal),
        trend=trends.of_suite(run.slug, principal),
        before=trends.before(run, principal),
        reports=FORMATS,
        **_cases(request, run),
        **_moving(run),
        **_rights(request),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/run.html", context)


@require_GET
def run_panel(request: HttpRequest, pk: str) -> HttpResponse:
    """Return the moving part of a run's page, which asks for it once a second."""
    run, _ = _run(request, pk)
    return TemplateResponse(request, "controlplane/panels/run.html", {"run": run, **_moving(run)})


@require_GET
def case_page(request: HttpRequest, pk: str, number: int) -> HttpResponse:
    """Show one case of a run: every step with its first and last attempt, and how it did before."""
    run, principal = _run(request, pk)
    row = get_object_or_404(CaseRun, run=run, number=number)
    context = page_context(
        request,
        f"{row}: {row.verdict}",
        subtitle=f"{run.slug}, run of {run.created_at:%Y-%m-%d %H:%M} UTC",
        run=run,
        failure=failures.explained(row, run, principal),
        trend=trends.of_case(run.slug, row.case, principal, matrix=row.matrix, iteration=row.iteration, most=60),
        **_rights(request),
        opts=None,
    )
    return TemplateResponse(request, "controlplane/case.html", context)


@require_POST
def cancel_run(request: HttpRequest, pk: str) -> HttpResponse:
    """Ask a run to end."""
    by = require(request, "runs", "cancel")
    run, _ = _run(request, pk)
    try:
        runs.cancel(run, by=by)
        messages.success(request, "It ends within a second; its cleanups still run.")
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("suites:run", run.pk)


@require_POST
def rerun(request: HttpRequest, pk: str) -> HttpResponse:
    """Run it again, or only what did not pass, and show the new run."""
    by = require(request, "runs", "rerun")
    run, _ = _run(request, pk)
    try:
        return redirect("suites:run", reruns.rerun(run, only_failed="failed" in request.POST, by=by).pk)
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("suites:run", run.pk)


def _run(request: HttpRequest, pk: str) -> tuple[Run, Principal]:
    principal = require(request, "runs", "retrieve")
    rows: Any = Run.objects.visible_to(principal).select_related("document", "suite", "owner").defer("rows")
    found: Run = get_object_or_404(rows, pk=pk)
    return found, principal


def _rights(request: HttpRequest) -> dict[str, bool]:
    return {
        "may_cancel": may(request, "runs", "cancel"),
        "may_read": may(request, "runs", "report"),
        "may_rerun": may(request, "runs", "rerun"),
    }


def _moving(run: Run) -> dict[str, Any]:
    """Return what of a run moves: how far it is, what is in hand, and what did not pass so far."""
    done = sum(run.counts.values())
    is_open = run.state != RunState.ENDED
    telling = CaseRun.objects.filter(TELLING, run=run).exclude(verdict=Verdict.BLOCKED)
    return {
        "done": done,
        "percent": 100 if not is_open else 100 * done / run.total if run.total else None,
        "in_hand": run.in_hand if is_open else [],
        "so_far": list(telling.order_by("-number")[:SO_FAR]) if is_open else [],
    }


def _cases(request: HttpRequest, run: Run) -> dict[str, Any]:
    """Return one page of the cases, of one verdict if the address says so."""
    asked, after = request.GET.get("verdict", ""), request.GET.get("after", "")
    rows = CaseRun.objects.filter(run=run).order_by("number")
    if asked in Verdict.values:
        rows = rows.filter(verdict=asked)
    if after.isascii() and after.isdigit() and len(after) <= 9:
        rows = rows.filter(number__gt=int(after))
    found = list(rows[: PAGE + 1])
    return {
        "cases": found[:PAGE],
        "cases_verdict": asked if asked in Verdict.values else "",
        "cases_next": found[PAGE - 1].number if len(found) > PAGE else None,
        "cases_paged": bool(after),
    }


_page = admin.site.admin_view
urlpatterns = [
    path("runs/", _page(list_page), name="runs"),
    path("runs/<uuid:pk>/", _page(run_page), name="run"),
    path("runs/<uuid:pk>/panel/", _page(run_panel), name="run-panel"),
    path("runs/<uuid:pk>/cases/<int:number>/", _page(case_page), name="case"),
    path("runs/<uuid:pk>/cancel/", _page(cancel_run), name="run-cancel"),
    path("runs/<uuid:pk>/again/", _page(rerun), name="run-again"),
]
