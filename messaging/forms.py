"""The send form: the envelope's main fields, and a payload that must be the JSON the API would take."""

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError
from endpoints.models import System, SystemState
from messaging.models import MessageType, Priority

MOST_CHOICES = 300
UTC_MINUTE = "%Y-%m-%dT%H:%M"
PRIORITIES = [(priority.name.lower(), priority.name.lower()) for priority in Priority]
EXAMPLE = '{\n  "order": 4711,\n  "status": "paid"\n}'
# Where the API's names of fields stand in the form.
FIELDS = {"source_system": "source", "target_system": "target", "payload_base64": "payload"}


class SendForm(forms.Form):
    """One message by hand. `envelope` is what the API would have been given."""

    source = forms.ChoiceField(label="From", widget=UnfoldAdminSelectWidget)
    target = forms.CharField(
        label="To",
        help_text="A system, or system/interface.",
        widget=UnfoldAdminTextInputWidget(attrs={"list": "cp-targets", "autocomplete": "off"}),
    )
    message_type = forms.ChoiceField(
        label="Type", choices=MessageType.choices, initial=MessageType.EVENT, widget=UnfoldAdminSelectWidget
    )
    event_type = forms.CharField(
        required=False,
        max_length=200,
        help_text="What happened, such as order.paid.",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "order.paid"}),
    )
    priority = forms.ChoiceField(choices=PRIORITIES, initial="normal", widget=UnfoldAdminSelectWidget)
    ordering_key = forms.CharField(
        required=False,
        max_length=200,
        help_text="Messages with the same key arrive one after the other.",
        widget=UnfoldAdminTextInputWidget,
    )
    correlation_id = forms.CharField(required=False, max_length=200, widget=UnfoldAdminTextInputWidget)
    ttl = forms.FloatField(
        required=False,
        min_value=1,
        label="Expires after (seconds)",
        help_text="Empty: never.",
        widget=UnfoldAdminDecimalFieldWidget,
    )
    payload = forms.CharField(
        initial=EXAMPLE,
        strip=False,
        help_text="JSON.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 12, "class": "cp-code-input", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        active = System.objects.visible_to(principal).exclude(state=SystemState.RETIRED)
        self.slugs = list(active.values_list("slug", flat=True)[:MOST_CHOICES])
        self.fields["source"].choices = [(slug, slug) for slug in self.slugs]  # type: ignore[attr-defined]

    def clean_payload(self) -> Any:
        """Read the payload as strictly as every other way in does."""
        try:
            return strict_json.parse(self.cleaned_data["payload"].encode("utf-8", "surrogatepass"), exact_numbers=True)
        except ControlPlaneError as error:
            raise forms.ValidationError(error.detail) from error

    def envelope(self) -> dict[str, Any]:
        """Return the message as `POST /api/v1/messages/` takes it, without what was left empty."""
        given = {FIELD_NAMES.get(name, name): value for name, value in self.cleaned_data.items()}
        return {name: value for name, value in given.items() if name == "payload" or value not in ("", None)}

    def add_refusal(self, error: ControlPlaneError) -> None:
        """Show what a service refused at the field it names."""
        for entry in error.errors:
            name = FIELDS.get(entry["field"].split(".")[0], entry["field"].split(".")[0])
            self.add_error(name if name in self.fields else None, entry["detail"])
        if not error.errors:
            self.add_error(FIELDS_OF_CODES.get(error.code), error.detail)


class MaintenanceForm(forms.Form):
    """A window by hand. Its times are UTC; a script shows them in the reader's zone and sends them back as UTC."""

    starts_at = forms.DateTimeField(label="From", input_formats=[UTC_MINUTE])
    ends_at = forms.DateTimeField(label="Until", input_formats=[UTC_MINUTE])
    reason = forms.CharField(
        required=False,
        max_length=500,
        help_text="Others will read it.",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "Database upgrade"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("starts_at", "ends_at"):
            attrs = {"type": "datetime-local", "data-utc": "", "required": True}
            self.fields[name].widget = UnfoldAdminTextInputWidget(attrs=attrs)

    def add_refusal(self, error: ControlPlaneError) -> None:
        """Show what a service refused at the field it names."""
        for entry in error.errors:
            self.add_error(WINDOW_FIELDS.get(entry["field"]), entry["detail"])
        if not error.errors:
            self.add_error(None, error.detail)


WINDOW_FIELDS = {"from": "starts_at", "until": "ends_at", "reason": "reason"}
FIELD_NAMES = {"source": "source_system", "target": "target_system"}
FIELDS_OF_CODES = {"unknown_system": "target", "not_accepted": "target", "too_large": "payload"}
