"""Admin pages under the same roles and teams as the API: the table in `access.roles` decides both."""

from typing import Any, ClassVar

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from endpoints.access import roles
from endpoints.access.authenticate import principal_of_user
from endpoints.access.principal import Principal


def principal_of(request: HttpRequest) -> Principal:
    """Return who looks at this page, worked out once per request; raises PermissionDenied for nobody."""
    found: Principal | None = getattr(request, "_principal", None)
    if found is None:
        user = request.user
        if isinstance(user, AnonymousUser):
            raise PermissionDenied
        found = principal_of_user(user)
        request._principal = found  # type: ignore[attr-defined]
    return found


def may(request: HttpRequest, resource: str, action: str) -> bool:
    """Say whether who looks at this page may do `action` on `resource`."""
    return request.user.is_authenticated and roles.may(principal_of(request), resource, action)


def require(request: HttpRequest, resource: str, action: str) -> Principal:
    """Return who looks at this page; raises PermissionDenied (403) when they may not do `action`."""
    if not may(request, resource, action):
        raise PermissionDenied
    return principal_of(request)


class RoleModelAdmin(ModelAdmin):
    """A model's pages under our roles instead of Django's per-model permissions.

    `resource` names the model's row in the role table. What the table does not
    name is nobody's, and rows of other teams do not exist here.
    """

    resource: ClassVar[str]
    show_full_result_count = False
    list_filter_sheet = False
    warn_unsaved_form = True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, self.resource, "list")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.resource, "retrieve")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, self.resource, "create")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.resource, "update")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may(request, self.resource, "destroy")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        return rows.visible_to(principal_of(request)) if hasattr(rows, "visible_to") else rows
