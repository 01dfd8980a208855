"""Signing keys of systems: made, shown once, revoked; never edited."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from endpoints import services
from endpoints.admin.base import ServiceForm, ServiceModelAdmin
from endpoints.edge.display import badge, when
from endpoints.edge.model_pages import require
from endpoints.errors import ControlPlaneError
from endpoints.models import SigningKey


class SigningKeyForm(ServiceForm):
    """Whose key; `secret` is for the one page that shows it."""

    secret = ""

    class Meta:
        model = SigningKey
        fields = ("system",)
        help_texts: ClassVar[dict[str, str]] = {
            "system": "It signs UDP datagrams and hooks with it. Two may live at once, to change over."
        }

    def store(self) -> None:
        self.instance, self.secret = services.create_signing_key(self.cleaned_data["system"], by=self.principal)


@admin.register(SigningKey)
class SigningKeyAdmin(ServiceModelAdmin):
    """Secrets that systems sign with."""

    resource: ClassVar[str] = "signing-keys"
    form = SigningKeyForm
    fields = ("system",)
    list_display = ("id", "system", "shown_state", "used", "made")
    list_select_related = ("system",)
    list_filter = ("system",)
    change_form_outer_after_template = "controlplane/parts/revoke_signing.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<uuid:pk>/revoke/", view, name="endpoints_signingkey_revoke"), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Show the secret, the only time it can be: it goes to this person's next page and nowhere else."""
        note = format_html(
            'Copy the secret of {} now, it cannot be shown again: <code class="cp-mono" id="new-key">{}</code> '
            '<button type="button" class="cp-button cp-button--small" data-copy-from="new-key">Copy</button>',
            obj.pk,
            form.secret,
        )
        messages.success(request, note)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return redirect("admin:endpoints_signingkey_changelist")

    def revoke_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Revoke a key for good."""
        principal = require(request, self.resource, "revoke")
        key = get_object_or_404(self.get_queryset(request), pk=pk)
        if request.method == "POST":
            try:
                services.revoke_signing_key(key, by=principal)
                messages.success(request, "The key is revoked, everywhere within a second.")
            except ControlPlaneError as error:
                messages.error(request, error.detail)
        return redirect("admin:endpoints_signingkey_changelist")

    @display(description="State")
    def shown_state(self, key: SigningKey) -> SafeString:
        return badge("revoked" if key.revoked_at else "active")

    @display(description="Last used", ordering="last_used_at")
    def used(self, key: SigningKey) -> Any:
        return when(key.last_used_at)

    @display(description="Made", ordering="created_at")
    def made(self, key: SigningKey) -> Any:
        return when(key.created_at)
