"""Forms and pages that change rows through the services alone, so that every change is checked and audited alike."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import UnfoldAdminTextareaWidget

from endpoints import services
from endpoints.access.principal import Principal
from endpoints.edge.model_pages import RoleModelAdmin, principal_of
from endpoints.errors import ControlPlaneError


class ServiceForm(forms.ModelForm):
    """A form that stores its row as the last step of its validation.

    The service knows rules that no form does (who may refer to whom, what a
    protocol's config is); asking it while the form is still open puts each refusal
    at the field it names.
    """

    principal: Principal

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound and not self.errors:
            try:
                self.store()
            except ControlPlaneError as error:
                self.add_refusal(error)

    def store(self) -> None:
        """Save the row on behalf of who fills the form in; raises ControlPlaneError."""
        action = "create" if self.instance._state.adding else "update"
        services.save(self.instance, by=self.principal, action=action, m2m=self.linked())

    def linked(self) -> Mapping[str, Any]:
        """Return what many-to-many fields are to hold."""
        names = [field.name for field in self.instance._meta.many_to_many]
        return {name: self.cleaned_data[name] for name in names if name in self.cleaned_data}

    def add_refusal(self, error: ControlPlaneError) -> None:
        """Show what the service refused, at the fields it names."""
        for entry in error.errors:
            name = entry["field"].split(".")[0]
            detail = entry["detail"] if entry["field"] == name else f"{entry['field']}: {entry['detail']}"
            self.add_error(name if name in self.fields else None, detail)
        if not error.errors:
            self.add_error(None, error.detail)


class ServiceModelAdmin(RoleModelAdmin):
    """Pages over a `ServiceForm`: the form has stored the row, the audit has noted it."""

    form = ServiceForm
    show_full_result_count = True  # the registry is small
    formfield_overrides: ClassVar[dict[Any, Any]] = {
        models.JSONField: {"widget": UnfoldAdminTextareaWidget(attrs={"rows": 3, "class": "cp-code-input"})},
        models.URLField: {"assume_scheme": "https"},
    }

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"principal": principal_of(request)})

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", _choices(db_field.related_model, principal_of(request)))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", _choices(db_field.related_model, principal_of(request)))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Do nothing: the form has stored it."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: the form has stored it."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Do nothing: the audit has it."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Do nothing: the audit has it."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """Do nothing: the audit has it."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        services.delete(obj, by=principal_of(request))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Delete, or say what still holds the row."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except ControlPlaneError as error:
            messages.error(request, error.detail)
            return redirect(request.path.removesuffix("delete/") + "change/")

    def get_actions(self, request: HttpRequest) -> Any:
        """Leave out deleting many at once: it would pass by the service."""
        return {name: found for name, found in super().get_actions(request).items() if name != "delete_selected"}


def _choices(model: Any, principal: Principal) -> models.QuerySet[Any]:
    """Return the rows of `model` that this person may choose from."""
    rows = model._default_manager.all()
    if hasattr(rows, "visible_to"):
        return rows.visible_to(principal)
    if model is Group and principal.team_ids is not None:
        return rows.filter(pk__in=principal.team_ids)
    return rows
