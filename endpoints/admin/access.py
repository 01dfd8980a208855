"""API keys, people with their roles and teams, and the audit."""

import json
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import StackedInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.paginator import InfinitePaginator

from endpoints import services
from endpoints.access import audit
from endpoints.admin.base import ServiceForm, ServiceModelAdmin
from endpoints.edge.display import badge, when
from endpoints.edge.model_pages import RoleModelAdmin, may, principal_of, require
from endpoints.errors import ControlPlaneError
from endpoints.models import ApiKey, AuditEntry, Membership


class ApiKeyForm(ServiceForm):
    """What a new key may do; `plaintext` is the key itself, for the one page that shows it."""

    plaintext = ""

    class Meta:
        model = ApiKey
        fields = ("name", "role", "team", "system", "expires_at")

    def store(self) -> None:
        given = {name: self.cleaned_data[name] for name in self._meta.fields or ()}
        self.instance, self.plaintext = services.create_api_key(**given, by=self.principal)


@admin.register(ApiKey)
class ApiKeyAdmin(ServiceModelAdmin):
    """Keys for programs: made, shown once, revoked; never edited."""

    resource: ClassVar[str] = "keys"
    form = ApiKeyForm
    fields = ("name", "role", "team", "system", "expires_at")
    list_display = ("name", "role", "team", "system", "shown_state", "used", "made")
    list_select_related = ("team", "system")
    list_filter = ("role",)
    search_fields = ("name",)
    change_form_outer_after_template = "controlplane/parts/revoke.html"

    def get_urls(self) -> list[URLPattern]:
        revoke = path("<uuid:pk>/revoke/", self.admin_site.admin_view(self.revoke_view), name="endpoints_apikey_revoke")
        return [revoke, *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Show the key, the only time it can be: it goes to this person's next page and nowhere else."""
        note = format_html(
            'Copy the key of {} now, it cannot be shown again: <code class="cp-mono" id="new-key">{}</code> '
            '<button type="button" class="cp-button cp-button--small" data-copy-from="new-key">Copy</button>',
            obj.name,
            form.plaintext,
        )
        messages.success(request, note)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return redirect("admin:endpoints_apikey_changelist")

    def revoke_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Revoke a key for good."""
        principal = require(request, self.resource, "revoke")
        key = get_object_or_404(self.get_queryset(request), pk=pk)
        if request.method == "POST":
            try:
                services.revoke_api_key(key, by=principal)
                messages.success(request, f"{key.name} is revoked, everywhere within a second.")
            except ControlPlaneError as error:
                messages.error(request, error.detail)
        return redirect("admin:endpoints_apikey_change", key.pk)

    @display(description="State")
    def shown_state(self, key: ApiKey) -> SafeString:
        if key.revoked_at:
            return badge("revoked")
        return badge("expired" if key.expires_at and key.expires_at <= timezone.now() else "active")

    @display(description="Last used", ordering="last_used_at")
    def used(self, key: ApiKey) -> Any:
        return when(key.last_used_at)

    @display(description="Made", ordering="created_at")
    def made(self, key: ApiKey) -> Any:
        return when(key.created_at)


@admin.register(AuditEntry)
class AuditEntryAdmin(RoleModelAdmin):
    """Who did what; only ever read."""

    resource: ClassVar[str] = "audit"
    list_display = ("time", "actor", "via", "action", "object_type", "object_label")
    list_filter = ("via", "action", "object_type")
    search_fields = ("^actor", "=object_id", "^object_label")
    search_help_text = "Who, an id, or what"
    paginator = InfinitePaginator  # nobody counts a table that only grows
    fields = ("time", "actor", "via", "action", "object_type", "object_id", "object_label", "team", "shown_changes")
    readonly_fields = fields

    @display(description="Time", ordering="at")
    def time(self, entry: AuditEntry) -> Any:
        return when(entry.at)

    @display(description="Changes")
    def shown_changes(self, entry: AuditEntry) -> SafeString:
        return format_html('<pre class="cp-code">{}</pre>', json.dumps(entry.changes, indent=2, ensure_ascii=False))


def governs(request: HttpRequest, user: User | None = None) -> bool:
    """Say whether this visitor may change people, or this person.

    One who sees every team may change everybody. An admin of teams may change those
    who are in no other team: a role is held in all of one's teams at once.
    """
    if not may(request, "users", "update"):
        return False
    teams = principal_of(request).team_ids
    if teams is None:
        return True
    if user is None or user.is_superuser:
        return False
    theirs = set(user.groups.values_list("pk", flat=True))
    return bool(theirs) and theirs <= teams


class MembershipInline(StackedInline):
    """The role of a person."""

    model = Membership
    can_delete = False
    verbose_name_plural = "role"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "users", "retrieve")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return governs(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return governs(request, obj)


class AuditedModelAdmin(RoleModelAdmin):
    """Django's own rows, changed as Django does; the audit is written with the change."""

    resource: ClassVar[str] = "users"
    show_full_result_count = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return governs(request)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        audit.record(principal_of(request), "create", obj)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        changed = self._changed(message)
        audit.record(principal_of(request), "update", obj, {"fields": [None, changed]} if changed else None)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            audit.record(principal_of(request), "delete", obj)

    def _changed(self, message: Any) -> list[str]:
        """Return the names of the changed fields, without a value: a password may be among them."""
        if not isinstance(message, list):
            return [str(message)[:200]]
        return [name for entry in message for part in entry.values() for name in part.get("fields", ())]


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(AuditedModelAdmin, DjangoUserAdmin):  # type: ignore[misc]
    """People: their role, and the teams they are in."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = (MembershipInline,)
    list_display = ("username", "role", "teams", "is_active", "last_seen")
    list_filter = ("is_active", "groups")
    filter_horizontal = ("groups",)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Who", {"fields": ("first_name", "last_name", "email")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "usable_password", "password1", "password2")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("membership").prefetch_related("groups")
        teams = principal_of(request).team_ids
        return rows if teams is None else rows.filter(groups__in=teams).distinct()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if governs(request) else ("is_staff", "is_superuser", "groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return governs(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return governs(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Let every new person sign in to these pages: without a role they only read."""
        if not change:
            obj.is_staff = True
        super().save_model(request, obj, form, change)

    @display(description="Role")
    def role(self, user: Any) -> str:
        if user.is_superuser:
            return "admin (superuser)"
        return user.membership.role if hasattr(user, "membership") else "viewer"

    @display(description="Teams")
    def teams(self, user: Any) -> str:
        return ", ".join(group.name for group in user.groups.all()) or "–"

    @display(description="Last signed in", ordering="last_login")
    def last_seen(self, user: Any) -> Any:
        return when(user.last_login)


@admin.register(Group)
class GroupAdmin(AuditedModelAdmin, DjangoGroupAdmin):  # type: ignore[misc]
    """Teams: they own systems, people are in them."""

    fields = ("name",)
    list_display = ("name",)
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> Any:
        teams = principal_of(request).team_ids
        rows = super().get_queryset(request)
        return rows if teams is None else rows.filter(pk__in=teams)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return governs(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return governs(request)
