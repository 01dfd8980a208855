"""The form that edits a message before it is sent as a new one, and what is different in it."""

import difflib
import uuid
from collections.abc import Iterator
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError
from endpoints.transports.bodies import is_json
from messaging.models import Message
from messaging.payloads import indented
from messaging.services.sending import Edit

MOST_EDITED = 256 * 1024
FIELDS = {"target_system": "target", "headers": "headers", "payload": "payload"}


class EditForm(forms.Form):
    """The payload and headers of one message as text; what is left as it was is sent byte for byte."""

    target = forms.CharField(
        required=False,
        label="To",
        help_text="Systems, or system/interface, separated by commas. Empty: today's routes decide.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    headers = forms.CharField(
        required=False,
        strip=False,
        help_text="One on each line: name: value.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "class": "cp-code-input", "spellcheck": "false"}),
    )
    payload = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 16, "class": "cp-code-input", "spellcheck": "false"}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, message: Message, payload: bytes, data: Any = None) -> None:
        self.message, self.stored = message, payload
        self.text = _as_text(message, payload)
        self.before = {
            "target": ", ".join(message.targets or ()),
            "headers": "".join(f"{name}: {value}\n" for name, value in message.headers.items()),
            "payload": self.text or "",
        }
        super().__init__(data, initial={**self.before, "key": uuid.uuid4()})
        if self.text is None:
            self.fields["payload"].disabled = True
            self.fields["payload"].help_text = "It is no text, or too long to edit here: it is sent as it is."

    def clean_headers(self) -> dict[str, str]:
        found = {}
        for line in _lines(self.cleaned_data["headers"]).splitlines():
            name, colon, value = line.partition(":")
            if line.strip() and not (colon and name.strip()):
                raise forms.ValidationError(f"'{line[:80]}' is not name: value.")
            if line.strip():
                found[name.strip()] = value.strip()
        return found

    def clean_payload(self) -> bytes:
        """Return the bytes to send: those stored if nothing was changed, else what was typed, JSON made compact."""
        typed = _lines(self.cleaned_data["payload"])
        if self.text is None or typed == _lines(self.text):
            return self.stored
        if not is_json(self.message.content_type):
            return typed.encode("utf-8", "surrogatepass")
        try:
            return strict_json.dumps(strict_json.parse(typed.encode("utf-8", "surrogatepass"), exact_numbers=True))
        except ControlPlaneError as error:
            raise forms.ValidationError(error.detail) from error

    def edit(self) -> Edit:
        """Return what was edited, as the service takes it."""
        names = [name.strip() for name in self.cleaned_data["target"].split(",") if name.strip()]
        data = self.cleaned_data
        return Edit(f"edit-{data['key']}", data["payload"], data["headers"], names or None)

    def changes(self) -> dict[str, list[tuple[str, str]]]:
        """Return {field: lines that differ} as (sign, text), with the lines around them; sign is +, - or a space."""
        data = self.cleaned_data
        after = {
            "target": data["target"],
            "headers": "".join(f"{name}: {value}\n" for name, value in data["headers"].items()),
            "payload": _as_text(self.message, data["payload"]) or "",
        }
        found = {name: list(_difference(before, after[name])) for name, before in self.before.items()}
        return {name: lines for name, lines in found.items() if lines}

    def add_refusal(self, error: ControlPlaneError) -> None:
        """Show what the service refused at the field it names."""
        name = FIELDS.get(error.errors[0]["field"]) if error.errors else None
        self.add_error(name, error.errors[0]["detail"] if name else error.detail)


def _difference(before: str, after: str) -> Iterator[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    for line in list(difflib.unified_diff(old, new, n=3, lineterm=""))[2:]:
        yield ("@", "…") if line.startswith("@@") else (line[:1], line[1:])


def _as_text(message: Message, payload: bytes) -> str | None:
    """Return a payload as it can be edited: JSON indented; None when it is no text, or too long."""
    if len(payload) > MOST_EDITED:
        return None
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    return indented(text) if is_json(message.content_type) else text


def _lines(text: str) -> str:
    """Return text with the line ends of this side; browsers send others than they were given."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
