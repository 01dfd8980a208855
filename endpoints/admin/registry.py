"""Systems, endpoints and credentials."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from endpoints import services
from endpoints.admin.base import ServiceForm, ServiceModelAdmin
from endpoints.edge import strict_json
from endpoints.edge.display import ago, badge, when
from endpoints.errors import ControlPlaneError
from endpoints.models import BreakerState, Credential, Endpoint, Maintenance, System
from endpoints.transports import protocols, transport_class


@admin.register(System)
class SystemAdmin(ServiceModelAdmin):
    """Registered parties; the slug leads to a system's own page with its traffic."""

    resource: ClassVar[str] = "systems"
    list_display = ("page", "name", "kind", "environment", "owner", "shown_state", "seen", "endpoint_count")
    list_display_links = None
    list_filter = ("state", "kind", "environment")
    list_select_related = ("owner",)
    search_fields = ("slug", "name", "description")
    search_help_text = "Search slug, name, description"
    ordering = ("slug",)
    filter_horizontal = ("depends_on",)
    fieldsets = (
        (None, {"fields": ("slug", "name", "kind", "environment", "version", "state", "description")}),
        ("Who", {"fields": ("owner", "contact", "runbook_url", "accepts_from", "accepts_broadcast")}),
        ("Messages", {"fields": ("search_keys", "max_message_bytes", "allow_load")}),
        ("Finding it", {"fields": ("tags", "capabilities", "metadata", "depends_on")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        held = Maintenance.objects.at(Now()).filter(system=OuterRef("pk"))
        return super().get_queryset(request).annotate(doors=Count("endpoints"), is_held=Exists(held))

    @display(description="System", ordering="slug")
    def page(self, system: System) -> SafeString:
        return format_html(
            '<a class="cp-row-link" href="{}">{}</a>', reverse("pages:system", args=[system.slug]), system.slug
        )

    @display(description="State", ordering="state")
    def shown_state(self, system: Any) -> SafeString:
        words = [system.state, system.retirement, "maintenance" if system.is_held else ""]
        return format_html_join(" ", "{}", [(badge(word),) for word in words if word])

    @display(description="Last seen", ordering="last_seen_at")
    def seen(self, system: System) -> SafeString | str:
        return ago(system.last_seen_at) if system.last_seen_at else "–"

    @display(description="Endpoints", ordering="doors")
    def endpoint_count(self, system: Any) -> SafeString:
        address = reverse("admin:endpoints_endpoint_changelist")
        return format_html('<a href="{}?system__id__exact={}">{}</a>', address, system.pk, system.doors)


class EndpointForm(ServiceForm):
    """An address with its config; the help says which config each protocol takes."""

    protocol = forms.ChoiceField(widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "protocol" in self.fields:  # a viewer's page has no fields
            self.fields["protocol"].choices = [(name, name) for name in protocols()]  # type: ignore[attr-defined]
            self.fields["config"].help_text = config_help()


@admin.register(Endpoint)
class EndpointAdmin(ServiceModelAdmin):
    """Addresses of systems."""

    resource: ClassVar[str] = "endpoints"
    form = EndpointForm
    list_display = ("door", "shown_state", "shown_breaker", "shown_health", "address", "credential", "max_in_flight")
    list_filter = ("state", "health", "protocol", "system")
    list_select_related = ("system", "credential", "breaker")
    search_fields = ("system__slug", "interface", "name", "host")
    search_help_text = "Search system, interface, name, host"
    fieldsets = (
        (None, {"fields": ("system", "interface", "name", "use", "state")}),
        ("Address", {"fields": ("protocol", "host", "port", "path", "config", "credential")}),
        ("Trying", {"fields": ("timeout_s", "max_attempts", "retry_schedule_s", "outcomes", "ordering_policy")}),
        ("Load", {"fields": ("max_in_flight", "rate_per_s", "balancing", "weight", "tier")}),
    )

    @display(description="Endpoint", ordering="system__slug")
    def door(self, endpoint: Endpoint) -> str:
        return str(endpoint)

    @display(description="State", ordering="state")
    def shown_state(self, endpoint: Endpoint) -> SafeString:
        return badge(endpoint.state)

    @display(description="Breaker", ordering="breaker__state")
    def shown_breaker(self, endpoint: Endpoint) -> SafeString | str:
        """Say since when sends are held back and when the next one is tried; nothing while all is well."""
        row = getattr(endpoint, "breaker", None)
        if row is None or row.state == BreakerState.CLOSED:
            return ""
        failures = f"{len(row.streak)} failures in a row, the last: {row.error or row.error_class}"
        return format_html(
            '<span title="{}">{} since {}, next try {}</span>',
            failures,
            badge(row.state),
            when(row.opened_at),
            when(row.try_at) if row.state == BreakerState.OPEN else "now",
        )

    @display(description="Health", ordering="health")
    def shown_health(self, endpoint: Endpoint) -> SafeString:
        return badge(endpoint.health)

    @display(description="Address")
    def address(self, endpoint: Endpoint) -> SafeString:
        port = f":{endpoint.port}" if endpoint.port else ""
        return format_html(
            '<span class="cp-mono">{}://{}{}{}</span>', endpoint.protocol, endpoint.host, port, endpoint.path
        )


class SecretTextarea(UnfoldAdminTextareaWidget):
    """A text area that never writes back what was typed: a page with an error in it must hold no secret."""

    def format_value(self, value: Any) -> str:
        return ""


class CredentialForm(ServiceForm):
    """A credential's name and kind, and a secret that goes in and never comes out."""

    secret = forms.CharField(
        required=False,
        strip=False,
        label="Data",
        widget=SecretTextarea(attrs={"rows": 5, "autocomplete": "off", "spellcheck": "false"}),
        help_text='JSON, such as {"token": "..."} for bearer or {"username": "...", "password": "..."} for basic. '
        "Stored encrypted and never shown again; leave empty to keep what is stored.",
    )

    class Meta:
        model = Credential
        fields = ("name", "kind", "owner")

    def clean_secret(self) -> Any:
        text = self.cleaned_data["secret"]
        if not text.strip():
            if self.instance._state.adding:
                raise forms.ValidationError("A new credential needs its data.")
            return None
        try:
            return strict_json.parse(text.encode("utf-8", "surrogatepass"))
        except ControlPlaneError:
            # The parser's text may quote what stands at the fault: a secret.
            raise forms.ValidationError("This is not JSON.") from None

    def clean(self) -> dict[str, Any] | None:
        if "kind" in self.changed_data and not self.instance._state.adding and not self.cleaned_data.get("secret"):
            self.add_error("secret", "Another kind takes other data.")
        return super().clean()

    def store(self) -> None:
        data = self.cleaned_data.get("secret")
        if data is None:
            super().store()
        else:
            services.set_secret(self.instance, data, by=self.principal)

    def add_refusal(self, error: ControlPlaneError) -> None:
        """Show faults of `data` at the field that stands for it."""
        for entry in error.errors:
            if entry["field"].split(".")[0] == "data":
                entry["field"] = entry["field"].replace("data", "secret", 1)
        super().add_refusal(error)

    def get_initial_for_field(self, field: forms.Field, field_name: str) -> Any:
        return None if field_name == "secret" else super().get_initial_for_field(field, field_name)


@admin.register(Credential)
class CredentialAdmin(ServiceModelAdmin):
    """Stored secrets: named, owned, replaced; never read."""

    resource: ClassVar[str] = "credentials"
    form = CredentialForm
    fields = ("name", "kind", "owner", "secret")
    list_display = ("name", "kind", "owner", "changed")
    list_filter = ("kind",)
    list_select_related = ("owner",)
    search_fields = ("name",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        writes = self.has_change_permission(request, obj) or (obj is None and self.has_add_permission(request))
        return self.fields if writes else ("name", "kind", "owner")

    @display(description="Changed", ordering="updated_at")
    def changed(self, credential: Credential) -> Any:
        return when(credential.updated_at)


def config_help() -> SafeString:
    """Return which keys each protocol's config takes."""
    rows = []
    for protocol in protocols():
        known = transport_class(protocol).CONFIG_SCHEMA.get("properties", {})
        rows.append(f"{protocol}: {', '.join(sorted(known)) or 'nothing'}")
    return format_html("JSON. Keys by protocol: {}.", "; ".join(rows))
