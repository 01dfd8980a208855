"""The REST face of the history: the cases of a run and why it failed, trends, comparisons, and what needs care."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access import roles
from endpoints.access.principal import Principal
from endpoints.access.rest import principal_of
from endpoints.edge.filters import Filter, documented, identifier, number, text, values
from endpoints.edge.walks import Order, Walk
from endpoints.errors import Malformed, NotFound
from testing import serializers_history as shapes
from testing.filters import CASES
from testing.models import CaseRun, Run
from testing.serializers import CaseRunSerializer
from testing.services import comparing, failures, figures, flaky, trends

TREND: dict[str, Filter] = {
    "suite": text("slug", "The suite's slug. Needed."),
    "case": text("case", "One of its cases; without it, whole runs."),
    "runs": number("runs", 1, trends.LOOK, f"How many of the latest runs; {trends.SHOWN_RUNS} unless told."),
}
SUITE: dict[str, Filter] = {"suite": text("slug", "Of this suite only.")}
PAIR: dict[str, Filter] = {
    "after": identifier("after", "The later run. Needed."),
    "before": identifier("before", "The earlier one; the run of the same suite before it unless told."),
}


class RunCaseViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Any]):
    """The cases of one run, all of them, in pages."""

    resource = "runs"
    queryset = CaseRun.objects.all()
    serializer_class = CaseRunSerializer
    filters = CASES
    orderings = {"number": "number"}
    default_ordering = "number"

    def walk(self, request: Request, order: Order) -> Walk | None:
        return None  # a run has at most some ten thousand

    def get_queryset(self) -> QuerySet[CaseRun]:
        if "run" not in self.kwargs:
            return CaseRun.objects.none()
        return CaseRun.objects.filter(run=run_of(principal_of(self.request), self.kwargs["run"]))


class RunFailureView(viewsets.ViewSet):
    """Why a run did not pass."""

    resource = "runs"

    @extend_schema(responses=shapes.FailureSerializer)
    def failure(self, request: Request, pk: UUID) -> Response:
        """What went wrong first; 404 `all_passed` when nothing did.

        The first and last attempt of its step, with requests and answers, are for operators.
        """
        principal = principal_of(request)
        found = failures.first_failure(run_of(principal, pk), principal)
        if found is None:
            raise NotFound("nothing in this run went wrong", code="all_passed")
        context = {"may_read": roles.may(principal, "runs", "report")}
        return Response(shapes.FailureSerializer(found, context=context).data)


class HistoryViewSet(viewsets.ViewSet):
    """Figures over many runs."""

    resource = "history"

    @extend_schema(responses=shapes.TrendSerializer, parameters=documented(TREND))
    @action(detail=False)
    def trend(self, request: Request) -> Response:
        """How a suite, or one case of it, did over its latest runs; of a case's variants the worst of each run."""
        asked, principal = values(TREND, request), principal_of(request)
        slug, most = _needed(asked, "suite"), asked.get("runs", trends.SHOWN_RUNS)
        if not Run.objects.visible_to(principal).filter(slug=slug).exists():
            raise NotFound(f"no run of a suite '{slug}'")
        if "case" in asked:
            found = trends.of_case(slug, asked["case"], principal, most=most)
        else:
            found = trends.of_suite(slug, principal, most=most)
        return Response(shapes.TrendSerializer(found).data)

    @extend_schema(responses=shapes.FlakyListSerializer, parameters=documented(SUITE))
    @action(detail=False)
    def flaky(self, request: Request) -> Response:
        """Cases that cannot be relied on, each by a named rule over the latest 30 runs of its suite."""
        found = flaky.flaky(principal_of(request), values(SUITE, request).get("suite", ""))
        return Response(shapes.FlakyListSerializer({"rules": flaky.RULES, "results": found}).data)

    @extend_schema(responses=shapes.SlowListSerializer, parameters=documented(SUITE))
    @action(detail=False)
    def slowest(self, request: Request) -> Response:
        """The cases that took longest, of the latest that passed."""
        found = figures.slowest(principal_of(request), values(SUITE, request).get("suite", ""))
        return Response(shapes.SlowListSerializer({"results": found}).data)

    @extend_schema(responses=shapes.UncoveredListSerializer)
    @action(detail=False)
    def uncovered(self, request: Request) -> Response:
        """Endpoints in use that no stored suite names."""
        values({}, request)
        found, most = figures.uncovered(principal_of(request)), figures.MOST_ENDPOINTS
        return Response(shapes.UncoveredListSerializer({"more": len(found) > most, "results": found[:most]}).data)

    @extend_schema(responses=shapes.ComparisonSerializer, parameters=documented(PAIR))
    @action(detail=False)
    def compare(self, request: Request) -> Response:
        """Two runs side by side: which cases broke, healed, came, went or took longer, and what was different."""
        asked, principal = values(PAIR, request), principal_of(request)
        after = run_of(principal, _needed(asked, "after"))
        before = run_of(principal, asked["before"]) if "before" in asked else trends.before(after, principal)
        if before is None:
            raise NotFound("there is no run of this suite before it", code="no_run_before")
        return Response(shapes.ComparisonSerializer(comparing.compare(before, after, principal)).data)


def run_of(principal: Principal, pk: Any) -> Run:
    """Return a run that the caller may see; raises Http404."""
    rows: Any = Run.objects.visible_to(principal).select_related("document").defer("rows")
    found: Run = get_object_or_404(rows, pk=pk)
    return found


def _needed(asked: dict[str, Any], name: str) -> Any:
    if name not in asked:
        detail = "is needed"
        raise Malformed(f"{name}: {detail}", errors=[{"field": name, "code": "required", "detail": detail}])
    return asked[name]
