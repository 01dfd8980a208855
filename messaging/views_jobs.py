"""The pages of jobs: all of them, one with its progress, and the preview that starts one."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from endpoints.edge.model_pages import may, require
from endpoints.errors import ControlPlaneError
from messaging import store
from messaging.admin.lists import Browser, page_context, read_page, without_blanks
from messaging.filters import DELIVERIES, JOBS
from messaging.jobs.actions import ACTIONS
from messaging.models import OPEN_JOBS, Job, JobAction, State
from messaging.services import jobs

BROWSER = Browser("pk", JOBS, lambda given, principal, order: None)
OWN = ("action", "all")  # what the address of a preview says beside its filters
# What is most likely wanted of deliveries in a state.
LIKELY = {State.PENDING.value: JobAction.RETRY_NOW.value, State.DELIVERED.value: JobAction.REPLAY.value}
STEPS = {
    "pause": (jobs.pause, "is paused"),
    "resume": (jobs.resume, "goes on"),
    "cancel": (jobs.cancel, "is cancelled"),
}


@require_GET
def list_page(request: HttpRequest) -> HttpResponse:
    """Show one page of jobs, newest first."""
    principal = require(request, "jobs", "list")
    page, now = read_page(request, Job.objects.visible_to(principal), BROWSER), store.now()
    rows = [_shown(job, now) for job in page.rows]
    context = page_context(request, "Jobs", page=page, rows=rows, may_create=may(request, "jobs", "create"), opts=None)
    return TemplateResponse(request, "controlplane/jobs.html", context)


@require_GET
def job_page(request: HttpRequest, pk: str) -> HttpResponse:
    """Show one job, with what may be done with it."""
    job = _job(request, pk)
    shown = _shown(job, store.now())
    context = page_context(
        request,
        f"Job: {shown['label']}",
        subtitle=str(job.pk),
        shown=shown,
        job=job,
        meaning=_action_of(job).meaning if job.action in ACTIONS else "",
        may_steer=may(request, "jobs", "pause") and job.state in OPEN_JOBS,
        opts=None,
    )
    return TemplateResponse(request, "controlplane/job.html", context)


@require_GET
def job_panel(request: HttpRequest, pk: str) -> HttpResponse:
    """Return the moving part of a job's page, which asks for it once a second."""
    job = _job(request, pk)
    context = {"job": job, "shown": _shown(job, store.now())}
    return TemplateResponse(request, "controlplane/panels/job.html", context)


@require_POST
def steer_job(request: HttpRequest, pk: str) -> HttpResponse:
    """Pause, resume or cancel a job, or change its rate."""
    step = request.POST.get("step", "")
    if step not in STEPS and step != "rate":
        raise PermissionDenied
    by = require(request, "jobs", "partial_update" if step == "rate" else step)
    job = _job(request, pk)
    try:
        if step == "rate":
            jobs.set_rate(job, _rate(request), by=by)
            messages.success(request, "The rate is changed.")
        else:
            service, told = STEPS[step]
            service(job, by=by)
            messages.success(request, f"The job {told}.")
    except ControlPlaneError as error:
        messages.error(request, error.detail)
    return redirect("pages:job", job.pk)


@require_http_methods(["GET", "POST"])
def new_page(request: HttpRequest) -> HttpResponse:
    """Show what a job would do with what the address's filters find; on POST start it."""
    by = require(request, "jobs", "create")
    given = _filters(request)
    action = request.GET.get("action") or _likely(given)
    everything = request.GET.get("all") == "1"
    error, found = "", None
    try:
        if request.method == "POST":
            job, is_new = jobs.create(action, given, by=by, rate_per_s=_rate(request), everything=everything)
            if not is_new:
                messages.info(request, "The same job was open already: this is it.")
            return redirect("pages:job", job.pk)
        found = jobs.preview(action, given, by=by, everything=everything)
    except ControlPlaneError as refusal:
        error = refusal.detail
    is_vague = not given and not everything
    context = page_context(
        request,
        "Do this with all of these",
        choices=[_choice(name, action, given, everything=everything) for name in ACTIONS],
        action=ACTIONS.get(action),
        name=action,
        given=_chips(given),
        found=found,
        error="" if is_vague else error,
        is_vague=is_vague,
        everything_url=_url(action, given, everything=True),
        deliveries_url=_deliveries(given),
        rate=request.POST.get("rate", ""),
        opts=None,
    )
    return TemplateResponse(
        request, "controlplane/job_new.html", context, status=422 if error and not is_vague else 200
    )


def _job(request: HttpRequest, pk: str) -> Job:
    principal = require(request, "jobs", "retrieve")
    found: Job = get_object_or_404(Job.objects.visible_to(principal), pk=pk)
    return found


def _action_of(job: Job) -> Any:
    return ACTIONS[job.action]


def _shown(job: Job, now: Any) -> dict[str, Any]:
    """Return a job as pages show it."""
    return {
        "job": job,
        "label": ACTIONS[job.action].label if job.action in ACTIONS else job.get_action_display(),
        "progress": jobs.progress(job, now),
        "filters": _chips(job.filter),
        "deliveries_url": _deliveries(job.filter),
        "is_open": job.state in OPEN_JOBS,
    }


def _filters(request: HttpRequest) -> dict[str, Any]:
    asked = without_blanks(request).query_params
    return {name: asked.getlist(name) for name in asked if name not in (*OWN, "cursor", "page_size", "ordering")}


def _likely(given: dict[str, Any]) -> str:
    return LIKELY.get(given.get("state", [""])[0], JobAction.REDRIVE.value)


def _rate(request: HttpRequest) -> Any:
    """Return the rate that was typed: a number, None for none, or the text, which the service refuses."""
    typed = request.POST.get("rate", "").strip()
    try:
        return float(typed) if typed else None
    except ValueError:
        return typed


def _chips(given: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, ", ".join(map(str, values))) for name, values in given.items()]


def _choice(name: str, chosen: str, given: dict[str, Any], *, everything: bool) -> dict[str, Any]:
    return {"label": ACTIONS[name].label, "is_chosen": name == chosen, "url": _url(name, given, everything=everything)}


def _url(action: str, given: dict[str, Any], *, everything: bool) -> str:
    more = {"all": "1"} if everything else {}
    return reverse("pages:job-new") + "?" + urlencode({"action": action, **more, **given}, doseq=True)


def _deliveries(given: dict[str, Any]) -> str:
    known = {name: values for name, values in given.items() if name in DELIVERIES}
    return reverse("admin:messaging_delivery_changelist") + (f"?{urlencode(known, doseq=True)}" if known else "")


_page = admin.site.admin_view
urlpatterns = [
    path("jobs/", _page(list_page), name="jobs"),
    path("jobs/new/", _page(new_page), name="job-new"),
    path("jobs/<uuid:pk>/", _page(job_page), name="job"),
    path("jobs/<uuid:pk>/panel/", _page(job_panel), name="job-panel"),
    path("jobs/<uuid:pk>/steer/", _page(steer_job), name="job-steer"),
]
