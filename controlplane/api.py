"""The REST API's table of contents: one row per resource."""

from django.urls import URLPattern, URLResolver, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from endpoints import api as endpoints
from endpoints.notice_api import NoticeTargetViewSet
from endpoints.signing_api import SigningKeyViewSet
from messaging import api as messaging
from messaging import api_jobs, dead_letters, pull_api, registry_api
from messaging.incident_api import IncidentViewSet
from messaging.listener_api import ListenerViewSet
from testing import api as testing
from testing import history_api
from testing.api_packs import PackViewSet
from testing.documents_api import SuiteVersionViewSet
from testing.reports import FORMATS
from testing.schedule_api import ScheduleViewSet

router = SimpleRouter(use_regex_path=False)
router.register("systems", endpoints.SystemViewSet)
router.register("endpoints", endpoints.EndpointViewSet)
router.register("credentials", endpoints.CredentialViewSet)
router.register("keys", endpoints.KeyViewSet)
router.register("audit", endpoints.AuditViewSet)
router.register("messages", messaging.MessageViewSet)
router.register("deliveries", messaging.DeliveryViewSet)
router.register("dead-letters", dead_letters.DeadLetterViewSet, basename="dead-letter")
router.register("dead-letters/groups", dead_letters.DeadGroupViewSet, basename="dead-group")
router.register("attempts", messaging.AttemptViewSet)
router.register("incidents", IncidentViewSet)
router.register("notice-targets", NoticeTargetViewSet)
router.register("systems/<slug:slug>/maintenance", registry_api.MaintenanceViewSet)
router.register("systems/<slug:slug>/signing-keys", SigningKeyViewSet)
router.register("listeners", ListenerViewSet)
router.register("find", messaging.FindView, basename="find")
router.register("jobs", api_jobs.JobViewSet)
router.register("suites", testing.SuiteViewSet)
router.register("suites/<slug:slug>/versions", SuiteVersionViewSet)
router.register("runs", testing.RunViewSet)
router.register("schedules", ScheduleViewSet)
router.register("packs", PackViewSet, basename="pack")
router.register("runs/<uuid:run>/cases", history_api.RunCaseViewSet, basename="run-case")
router.register("history", history_api.HistoryViewSet, basename="history")
router.register("ledger", messaging.LedgerView, basename="ledger")

urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    *(
        path(f"systems/<slug:slug>/{action}/", registry_api.RetirementViewSet.as_view({"post": action}))
        for action in ("retire", "unretire")
    ),
    *(
        path(f"runs/<uuid:pk>/report.{found.ending}", testing.RunViewSet.as_view({"get": "report"}), {"form": form})
        for form, found in FORMATS.items()
    ),
    path("runs/<uuid:pk>/failure/", history_api.RunFailureView.as_view({"get": "failure"})),
    path("systems/<slug:slug>/inbox/", pull_api.InboxViewSet.as_view({"get": "inbox"})),
    *(path(f"deliveries/<uuid:pk>/{word}/", pull_api.InboxViewSet.as_view({"post": word})) for word in ("ack", "nack")),
    path("schema/", SpectacularJSONAPIView.as_view(permission_classes=[]), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="schema", permission_classes=[]), name="docs"),
]
