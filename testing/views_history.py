"""The pages that look over many runs: a suite or a case over time, two runs side by side, and what needs care."""

import uuid
from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from endpoints.access.principal import Principal
from endpoints.edge.model_pages import may, require
from messaging.admin.lists import page_context
from testing.models import Run
from testing.services import comparing, figures, flaky, overview, trends

LATEST = 30
CHOICES = 50
SHOWN = 60


@require_GET
def trend_page(request: HttpRequest) -> HttpResponse:
    """Show a suite, or one case of it, over its latest runs."""
    principal = require(request, "history", "trend")
    suite, case = request.GET.get("suite", "")[:63], request.GET.get("case", "")[:63]
    if not Run.objects.visible_to(principal).filter(slug=suite).exists():
        raise Http404
    context = page_context(
        request,
        f"{case or suite}: history",
        subtitle=suite,
        suite=suite,
        case=case,
        runs=list(trends.ended_runs(suite, principal).slim()[:LATEST]),
        opts=None,
    )
    if case:
        context["trend"] = trends.of_case(suite, case, principal, most=SHOWN)
        if not context["trend"].points:
            raise Http404
        context["points"] = context["trend"].points[::-1]
        return TemplateResponse(request, "controlplane/case_trend.html", context)
    context["trend"] = trends.of_suite(suite, principal, most=SHOWN)
    context["grid_runs"], context["grid"] = trends.grid(suite, principal)
    context["slowest"] = figures.slowest(principal, suite)
    context["flaky"] = flaky.flaky(principal, suite)
    return TemplateResponse(request, "controlplane/suite_trend.html", context)


@require_GET
def health_page(request: HttpRequest) -> HttpResponse:
    """Show what needs care: suites that do not pass, unsteady and slow cases, endpoints that nothing tests."""
    principal = require(request, "history", "list")
    found = figures.uncovered(principal)
    context = page_context(
        request,
        "Suite health",
        may_test=may(request, "suites", "draft"),
        seen=overview.overview(principal, timezone.now()),
        flaky=flaky.flaky(principal),
        rules=flaky.RULES,
        flaky_runs=flaky.RUNS,
        slowest=figures.slowest(principal),
        slowest_runs=figures.LATEST_RUNS,
        uncovered=found[: figures.MOST_ENDPOINTS],
        has_more_uncovered=len(found) > figures.MOST_ENDPOINTS,
        opts=None,
    )
    return TemplateResponse(request, "controlplane/suite_health.html", context)


@require_GET
def compare_page(request: HttpRequest) -> HttpResponse:
    """Show two runs side by side."""
    principal = require(request, "history", "compare")
    after = _run(principal, request.GET.get("after", ""))
    rows = trends.ended_runs(after.slug, principal).slim().exclude(pk=after.pk)
    given = request.GET.get("before", "")
    before = _run(principal, given) if given else rows.filter(pk__lt=after.pk).first()
    context = page_context(
        request,
        "Compare two runs",
        subtitle=after.slug,
        after=after,
        before=before,
        choices=list(rows[:CHOICES]),
        found=comparing.compare(before, after, principal) if before is not None else None,
        opts=None,
    )
    return TemplateResponse(request, "controlplane/compare.html", context)


def _run(principal: Principal, given: str) -> Run:
    try:
        key = uuid.UUID(given)
    except ValueError as exc:
        raise Http404 from exc
    rows: Any = Run.objects.visible_to(principal).slim()
    found: Run = get_object_or_404(rows, pk=key)
    return found


_page = admin.site.admin_view
urlpatterns = [
    path("runs/trend/", _page(trend_page), name="trend"),
    path("suite-health/", _page(health_page), name="health"),
    path("runs/compare/", _page(compare_page), name="compare"),
]
