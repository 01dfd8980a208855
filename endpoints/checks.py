"""Checks of the registry for `doctor` and `check --database default`: stored secrets can still be opened."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError

from endpoints.models import Credential


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
