"""Checks of the registry for `doctor` and `check`: secrets can be opened, and what packages bring can be used."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError

from endpoints.models import Credential
from endpoints.transports import unusable


def secrets_can_be_opened(databases: Sequence[str] | None = None, **options: Any) -> list[CheckMessage]:
    """Name the encryption keys that rows still need and that are no longer configured.

    Asks the database only when it is told that it may; one without our tables
    has no secrets to lose.
    """
    if not databases:
        return []
    known = [entry.partition(":")[0] for entry in settings.ENV.encryption_keys]
    try:
        missing = set(
            Credential.objects.exclude(encryption_key_id__in=known).values_list("encryption_key_id", flat=True)
        )
    except DatabaseError:
        return []
    return [
        Error(
            f"Secrets are encrypted with key '{key_id}', which is not in CONTROLPLANE_ENCRYPTION_KEYS.",
            hint="Put the key back as the last one, run `controlplane rotate_keys`, then drop it.",
            id="endpoints.E001",
        )
        for key_id in sorted(missing)
    ]


def transports_can_be_used(**options: Any) -> list[CheckMessage]:
    """Name the packages whose protocols cannot be used; all others can be."""
    return [
        Warning(
            f"Protocol '{protocol}' of package '{package}' {reason}.",
            hint="Update or remove the package. Nothing else is touched by it.",
            id="endpoints.W001",
        )
        for protocol, package, reason in unusable()
    ]
