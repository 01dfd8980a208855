"""Who is told of incidents: the form to add and change a target."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from endpoints.admin.base import ServiceForm, ServiceModelAdmin
from endpoints.edge.model_pages import principal_of
from endpoints.models import NoticeTarget
from endpoints.services import notices


class NoticeTargetForm(ServiceForm):
    """A system that gets a message, or a mailbox that gets a mail."""

    target = forms.CharField(
        required=False,
        max_length=127,
        label="System",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "chat, or chat/alerts"}),
        help_text="A registered system, or system/interface, that gets a message: a chat's webhook, an on-call "
        "service. It must accept messages from the system controlplane.",
    )

    class Meta:
        labels: ClassVar[dict[str, str]] = {"email": "Or a mail address"}
        help_texts: ClassVar[dict[str, str]] = {"team": "Whose incidents. Empty: everyone's, and those of nobody."}

    def store(self) -> None:
        action = "create" if self.instance._state.adding else "update"
        notices.save_target(self.instance, by=self.principal, action=action)


@admin.register(NoticeTarget)
class NoticeTargetAdmin(ServiceModelAdmin):
    """Who is told when an incident opens and when it resolves."""

    resource: ClassVar[str] = "notice-targets"
    form = NoticeTargetForm
    fields = ("target", "email", "team")
    list_display = ("__str__", "team", "shown_problem", "created_at")
    list_select_related = ("team",)

    @display(description="Problem")
    def shown_problem(self, target: NoticeTarget) -> str:
        return notices.problem_of(target) or "-"

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        notices.delete_target(obj, by=principal_of(request))
