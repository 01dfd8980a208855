"""Schedules as pages: when suites run by themselves, what came of the last run, and a way to pause them."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from endpoints.edge.display import badge, when
from endpoints.edge.model_pages import RoleModelAdmin, may, principal_of, require
from endpoints.errors import ControlPlaneError
from testing.document.cron_words import in_words
from testing.models import Missed, Overlap, Run, Schedule
from testing.services import schedules

SHOWN = 5
OVERLAPS = {
    Overlap.SKIP: "the tick is skipped, and its run says so",
    Overlap.QUEUE: "the tick's run waits for it",
    Overlap.ALLOW: "the tick's run begins beside it",
}
MISSED = {
    Missed.COALESCE: "one run for all at which no worker was there",
    Missed.SKIP: "no run for those at which no worker was there",
    Missed.RUN: "a run for each at which no worker was there",
}


@admin.register(Schedule)
class ScheduleAdmin(RoleModelAdmin):
    """What a schedule is stands in its suite's document; here it is read, paused and resumed."""

    resource: ClassVar[str] = "schedules"
    list_before_template = "controlplane/parts/schedule_none.html"
    list_display = ("suite", "shown_when", "shown_state", "next", "last", "shown_triggers")
    list_select_related = ("suite",)
    search_fields = ("suite__slug", "suite__title")
    search_help_text = "The suite"
    show_full_result_count = True  # at most one for each suite
    fields = (
        *("shown_suite", "shown_when", "shown_cron", "shown_state", "ticks", "last"),
        *("shown_overlap", "shown_missed", "shown_triggers"),
        *("acts_for", "paused_by", "pause_reason"),
    )
    readonly_fields = fields
    change_form_outer_after_template = "controlplane/parts/schedule_pause.html"

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<uuid:pk>/{word}/",
                self.admin_site.admin_view(self.pause_view),
                {"word": word},
                name=f"testing_schedule_{word}",
            )
            for word in ("pause", "resume")
        ]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        last = (
            Run.objects.visible_to(principal_of(request))
            .filter(schedule=OuterRef("pk"))
            .exclude(verdict="")
            .order_by("-id")
        )
        found = super().get_queryset(request).select_related("suite")
        return found.annotate(last_verdict=Subquery(last.values("verdict")[:1]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        more = {**(extra_context or {}), "may_hold": may(request, self.resource, "pause")}
        return super().change_view(request, object_id, form_url, more)

    def pause_view(self, request: HttpRequest, pk: str, word: str) -> HttpResponse:
        """Pause or resume a schedule."""
        principal = require(request, self.resource, word)
        schedule = get_object_or_404(Schedule.objects.visible_to(principal), pk=pk)
        if request.method == "POST":
            try:
                if word == "pause":
                    schedules.pause(schedule, request.POST.get("reason", "")[:500], by=principal_of(request))
                else:
                    schedules.resume(schedule, by=principal_of(request))
                messages.success(request, f"The schedule of {schedule} is {word}d.")
            except ControlPlaneError as error:
                messages.error(request, error.detail)
        return redirect("admin:testing_schedule_change", schedule.pk)

    @display(description="When")
    def shown_when(self, schedule: Schedule) -> SafeString | str:
        if not schedule.cron:
            return "when a system changes"
        if told := in_words(schedule.cron):
            return f"{told} ({schedule.timezone})"
        return format_html("<span><code>{}</code> ({})</span>", schedule.cron, schedule.timezone)

    @display(description="As it is written")
    def shown_cron(self, schedule: Schedule) -> SafeString | str:
        return format_html("<code>{}</code>", schedule.cron) if schedule.cron else "–"

    @display(description="Suite")
    def shown_suite(self, schedule: Schedule) -> SafeString:
        address = reverse("suites:suite", args=[schedule.suite.slug])
        link = '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>, whose document says all of this'
        return format_html(link, address, schedule.suite.slug)

    @display(description="When a run goes on")
    def shown_overlap(self, schedule: Schedule) -> str:
        return OVERLAPS[Overlap(schedule.overlap)]

    @display(description="Missed ticks")
    def shown_missed(self, schedule: Schedule) -> str:
        return MISSED[Missed(schedule.missed)]

    @display(description="State")
    def shown_state(self, schedule: Schedule) -> SafeString:
        return badge("paused" if schedule.paused_at else "active")

    @display(description="Next", ordering="next_at")
    def next(self, schedule: Schedule) -> Any:
        return when(schedule.next_at)

    @display(description="Next")
    def ticks(self, schedule: Schedule) -> Any:
        found = schedules.coming(schedule, SHOWN)
        return format_html_join(SafeString("<br>"), "{}", ((when(at),) for at in found)) if found else "–"

    @display(description="Last")
    def last(self, schedule: Schedule) -> Any:
        verdict = getattr(schedule, "last_verdict", None)
        return format_html("{} {}", badge(verdict), when(schedule.last_at)) if verdict else "never"

    @display(description="Also when")
    def shown_triggers(self, schedule: Schedule) -> str:
        return ", ".join(found.replace("_", " ") for found in schedule.triggers) or "–"
