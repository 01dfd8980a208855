"""What may be copied into a suite: secrets become variables to fill in, and nothing copied reads as a reference."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from testing.document.secret_names import NAMES
from testing.runner.masking import Masker

# What secrets look like: keys of ours, of JWTs, of authorization headers, and of the larger clouds.
LOOKS = re.compile(
    r"\bcp_[A-Za-z0-9]{6,}_\S+|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\b(?:bearer|basic)\s+[\w.~+/=-]{8,}|-----BEGIN"
    r"|\bwhsec_\S+|\bAKIA[0-9A-Z]{12,}|\bgh[pousr]_\w{20,}|\bxox[abpr]-\S+|\bsk-[\w-]{16,}|://[^/\s:@]+:[^/\s@]+@",
    re.IGNORECASE,
)
# A name of one with something behind it, in a text that is no JSON: a form, an XML, a header.
GIVEN = re.compile(rf"(?:{NAMES.pattern})[\w-]{{0,40}}[\"']?\s{{0,5}}[=:>]", re.IGNORECASE)
FILLED = "left-out"
MOST_VARS = 100
MASK = "***"
OPENS, SPACED = "${{", "$ {{"  # what opens a reference, and what reads as itself


def unread(value: Any) -> Any:
    """Return a value in which nothing reads as a reference; for what names secrets and holds none, such as a schema."""
    if isinstance(value, dict):
        return {unread(name): unread(child) for name, child in value.items()}
    if isinstance(value, list):
        return [unread(child) for child in value]
    return value.replace(OPENS, SPACED) if isinstance(value, str) else value


class Cleaner:
    """Cleans the values of one draft; `vars` and `remarks` are what it then needs, and has to say."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._masker = Masker(secrets)
        self.vars: dict[str, Any] = {}
        self.remarks: list[str] = []

    def value(self, value: Any, place: str) -> Any:
        """Return a value of JSON as it may stand in a suite."""
        if isinstance(value, dict):
            return {self._key(name): self._named(name, child, f"{place}.{name}") for name, child in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(child, f"{place}.{index}") for index, child in enumerate(value)]
        return self.text(value, place) if isinstance(value, str) else value

    def fields(self, fields: Mapping[str, str], place: str) -> dict[str, str]:
        """Return headers or a query without those that are secret: the credential of the endpoint is used anyway."""
        kept = {}
        for name, value in fields.items():
            if NAMES.search(name) or self.is_secret(value):
                self.remarks.append(f"Left out, being a secret: {place}.{name}.")
            else:
                kept[name] = self._unread(value, f"{place}.{name}")
        return kept

    def text(self, text: str, place: str) -> str:
        """Return a text as it may stand in a suite."""
        return self._variable(place) if self.is_secret(text) else self._unread(text, place)

    def said(self, text: str) -> str:
        """Return what somebody said, to be read by people: in a remark, or in the title."""
        return LOOKS.sub(MASK, self._masker.text(text)).replace(OPENS, SPACED)

    def is_secret(self, text: str) -> bool:
        return bool(LOOKS.search(text)) or self._masker.text(text) != text

    def may_hold_secrets(self, text: str) -> bool:
        """Say whether a text whose parts nobody knows may hold one."""
        return self.is_secret(text) or bool(GIVEN.search(text))

    def _named(self, name: str, value: Any, place: str) -> Any:
        if NAMES.search(name) and value not in (None, "", [], {}, True, False):
            return self._variable(place)
        return self.value(value, place)

    def _key(self, name: str) -> str:
        """Return the name of a field: it stays what it is as far as may be, since the receiver looks for it."""
        return self.said(name)

    def _unread(self, text: str, place: str) -> str:
        if OPENS not in text:
            return text
        self.remarks.append(f"Changed: {place} held a dollar sign before two braces, which would read as a reference.")
        return text.replace(OPENS, SPACED)

    def _variable(self, place: str) -> str:
        """Return a reference to a variable for the secret at `place`."""
        name = re.sub(r"[^A-Za-z0-9_]+", "_", place).strip("_")[-50:].lstrip("0123456789_") or "secret"
        if len(self.vars) >= MOST_VARS:
            return FILLED
        known, number = name, 2
        while known in self.vars:
            known, number = f"{name}_{number}", number + 1
        self.vars[known] = FILLED
        self.remarks.append(f"Left out, being a secret: {self.said(place)}; vars.{known} stands for it.")
        return f"${{{{ vars.{known} }}}}"
