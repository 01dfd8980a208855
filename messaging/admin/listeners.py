"""Ways in: what is open, who comes, who was refused and why."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from endpoints.admin.base import ServiceForm, ServiceModelAdmin
from endpoints.edge.display import badge
from endpoints.edge.model_pages import may, principal_of, require
from endpoints.errors import ControlPlaneError
from messaging.listening.framing import VERBATIM, as_typed
from messaging.listening.signatures import SCHEMES
from messaging.models import Listener, ListenerKind
from messaging.services import listeners

ACTIONS = {"enable": listeners.enable, "disable": listeners.disable}
TONES = {"open": "healthy", "failed": "failed", "waiting": "pending", "disabled": "disabled"}


class ListenerForm(ServiceForm):
    """A way in; what does not go with its kind is refused at the field."""

    signature = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)

    class Meta:
        model = Listener
        exclude = ("created_at", "updated_at")
        labels: ClassVar[dict[str, str]] = {
            "tls": "TLS",
            "client_ca": "Authorities of clients",
            "ack_text": "Text of ack",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "slug": "Its name; a hook is called at /in/ and its name.",
            "host": "An address of this machine: 127.0.0.1, or 0.0.0.0 for all of them.",
            "envelope": "Message: senders speak our envelope and bring a key. None: what they send is the payload.",
            "delimiter": "For the framing delimiter: a text, or hex: and hexadecimal digits.",
            "size": "For the framing fixed: bytes of a frame.",
            "credential": "tcp with TLS: kind mtls. Hook: the secret it signs with; without one, the system's keys.",
            "client_ca": "PEM of the authorities whose client certificates are let in; empty: none is asked for.",
            "system": "Whose messages these are (envelope none, and hooks).",
            "addresses": 'Networks the sender is known by: ["10.1.0.0/16"].',
            "certificates": 'Names or fingerprints of client certificates: ["pump-7", "sha256:..."].',
            "target": "System or system/interface; empty: routes decide.",
            "content_type": "Empty: application/octet-stream, for MLLP application/hl7-v2.",
            "ack": "What a sender without an envelope is told once its message is stored.",
            "ack_text": "For ack text: a text, or hex: and hexadecimal digits such as hex:06.",
            "fields": 'Hook: where fields are, such as {"event_type": "payload.$.type", '
            '"message_id": "header.x-github-delivery"}.',
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "signature" in self.fields:
            choices = [(name, f"{name}: {scheme.description}") for name, scheme in SCHEMES.items()]
            self.fields["signature"].choices = choices  # type: ignore[attr-defined]
        for name in VERBATIM & self.fields.keys():  # one line of a page holds no line end: saving it must not lose one
            self.initial[name] = as_typed(self.initial.get(name) or "")
            self.fields[name].strip = False  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any] | None:
        """Say at the field what the constraint of the table would say of the whole row, in its own name."""
        cleaned = super().clean()
        kind = self.cleaned_data.get("kind")
        if kind != ListenerKind.HOOK and self.cleaned_data.get("port") is None and "port" not in self.errors:
            self.add_error("port", "give a port")
        return cleaned

    def store(self) -> None:
        action = "create" if self.instance._state.adding else "update"
        listeners.save(self.instance, by=self.principal, action=action)


@admin.register(Listener)
class ListenerAdmin(ServiceModelAdmin):
    """Ports and hooks: registered, opened, closed, and seen."""

    resource: ClassVar[str] = "listeners"
    form = ListenerForm
    list_display = ("slug", "shown_state", "address", "speaks", "system", "connections", "rate", "taken", "refused")
    list_select_related = ("system",)
    list_filter = ("kind", "enabled")
    search_fields = ("slug", "description")
    search_help_text = "Search name, description"
    ordering = ("slug",)
    change_form_outer_before_template = "controlplane/parts/listener.html"
    fieldsets = (
        (None, {"fields": ("slug", "kind", "enabled", "description")}),
        ("Address", {"fields": ("host", "port", "tls", "credential", "client_ca")}),
        ("What is spoken", {"fields": ("envelope", "framing", "size", "delimiter", "ack", "ack_text")}),
        ("Who sends, without our envelope", {"fields": ("system", "addresses", "certificates", "signature")}),
        ("What it becomes", {"fields": ("target", "message_type", "event_type", "content_type", "fields")}),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.switch_view)
        return [path("<uuid:pk>/switch/", view, name="messaging_listener_switch"), *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Ask once what is seen of all rows of the page."""
        page = super().get_changelist_instance(request)
        seen = listeners.seen(page.result_list)
        for row in page.result_list:
            row.seen = seen[row.pk]
        return page

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        shown: dict[str, Any] = {}
        if row is not None:
            seen = listeners.seen([row])[row.pk]
            shown = {
                "seen": seen,
                "tone": TONES[seen.state],
                "address": listeners.address_of(row),
                "may_switch": may(request, self.resource, "enable"),
            }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    def switch_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Open or close a listener."""
        name = request.POST.get("action", "")
        if request.method != "POST" or name not in ACTIONS:
            raise PermissionDenied
        principal = require(request, self.resource, name)
        listener = get_object_or_404(self.get_queryset(request), pk=pk)
        try:
            ACTIONS[name](listener, by=principal)
            messages.success(request, f"{listener.slug} is {name}d; it follows within two seconds.")
        except ControlPlaneError as error:
            messages.error(request, error.detail)
        return redirect("admin:messaging_listener_change", listener.pk)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        listeners.delete(obj, by=principal_of(request))

    @display(description="State")
    def shown_state(self, listener: Any) -> SafeString:
        return format_html('<span title="{}">{}</span>', listener.seen.problem, _state(listener.seen))

    @display(description="Address")
    def address(self, listener: Listener) -> SafeString:
        return format_html('<span class="cp-mono">{}</span>', listeners.address_of(listener))

    @display(description="Speaks")
    def speaks(self, listener: Listener) -> str:
        return listeners.speaks(listener)

    @display(description="Connections")
    def connections(self, listener: Any) -> str:
        return f"{listener.seen.connections:,}"

    @display(description="Per second")
    def rate(self, listener: Any) -> str:
        return f"{listener.seen.rate_per_s:,.0f}"

    @display(description="Accepted")
    def taken(self, listener: Any) -> str:
        return f"{listener.seen.accepted:,}"

    @display(description="Refused")
    def refused(self, listener: Any) -> str:
        return f"{listener.seen.refused:,}"


def _state(seen: listeners.Seen) -> SafeString:
    return badge(TONES[seen.state], seen.state)
