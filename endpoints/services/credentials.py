"""Secrets of credentials: checked by kind, encrypted, replaced, and re-encrypted when keys rotate."""

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import transaction
from django.db.models import QuerySet

from endpoints.access import audit, roles, secrets
from endpoints.access.principal import COMMAND, Principal
from endpoints.models import Credential, CredentialKind, CredentialToken, SigningKey
from endpoints.services import registry
from endpoints.services.rules import invalid

ROTATE_BATCH = 100
MAX_TEXT = 16 * 1024
TEXT, OBJECT = str, dict

# kind: ({required field: type}, {optional field: type})
FIELDS: dict[str, tuple[dict[str, type], dict[str, type]]] = {
    CredentialKind.API_KEY: ({"header": TEXT, "value": TEXT}, {}),
    CredentialKind.BASIC: ({"username": TEXT, "password": TEXT}, {}),
    CredentialKind.BEARER: ({"token": TEXT}, {}),
    CredentialKind.HMAC: ({"secret": TEXT}, {}),
    CredentialKind.OAUTH2_CLIENT: (
        {"token_url": TEXT, "client_id": TEXT, "client_secret": TEXT},
        {"scope": TEXT, "audience": TEXT, "auth": TEXT, "extra": OBJECT},
    ),
    CredentialKind.MTLS: ({"cert": TEXT, "key": TEXT}, {}),
    CredentialKind.JWT: ({"key": TEXT, "algorithm": TEXT}, {"claims": OBJECT}),
}


def set_secret(credential: Credential, data: dict[str, Any], *, by: Principal) -> Credential:
    """Store a credential, new or known, with this secret; raises Malformed naming the fields at fault.

    The token got with the old secret is dropped with it.
    """
    action = "create" if credential._state.adding else "update"
    roles.require(by, "credentials", action)
    check_data(credential.kind, data)
    credential.data, credential.encryption_key_id = secrets.encrypt(data)
    with transaction.atomic():
        registry.save(credential, by=by, action=action)
        if action == "update":
            audit.record(by, "set_secret", credential, {"data": [None, None]})
            CredentialToken.objects.filter(credential=credential).delete()
    return credential


def check_data(kind: str, data: Any) -> None:
    """Raise Malformed unless `data` has the fields of this kind of credential."""
    if kind not in FIELDS:
        raise invalid([_error("kind", f"must be one of {', '.join(CredentialKind.values)}")])
    if not isinstance(data, dict):
        raise invalid([_error("data", "must be an object")])
    required, optional = FIELDS[kind]
    known = required | optional
    errors = [_error(f"data.{name}", "is missing") for name in required if not data.get(name)]
    errors += [_error("data", f"has the unknown field '{name[:50]}'") for name in data if name not in known]
    errors += [
        _error(f"data.{name}", "must be an object" if kind_of is OBJECT else "must be a text of at most 16 KiB")
        for name, kind_of in known.items()
        if data.get(name) is not None and not _is(data[name], kind_of)
    ]
    if not errors and kind in SHAPES:
        errors = SHAPES[kind](data)
    if errors:
        raise invalid(errors)


def rotate_keys(progress: Callable[[int, int], None] | None = None) -> int:
    """Encrypt every stored secret with the newest key and return how many were rewritten.

    Runs beside traffic: rows go one by one, each only if nobody changed it meanwhile.
    `progress` is called with (done, total).
    """
    newest = secrets.current_key_id()
    sets: list[QuerySet[Any]] = [
        Credential.objects.exclude(encryption_key_id=newest),
        CredentialToken.objects.exclude(encryption_key_id=newest).filter(data__isnull=False),
        SigningKey.objects.exclude(encryption_key_id=newest),
    ]
    total = sum(rows.count() for rows in sets)
    done = 0
    for rows in sets:
        for row in list(rows.order_by("pk")):
            done += _rotate(row)
            if progress:
                progress(done, total)
    return done


def _rotate(row: Credential | CredentialToken | SigningKey) -> int:
    column = "secret" if isinstance(row, SigningKey) else "data"
    stored = getattr(row, column)
    blob, key_id = secrets.rotate(stored or b"")
    with transaction.atomic():
        # Another secret set meanwhile is encrypted with the newest key already: leave it.
        unchanged = type(row).objects.filter(pk=row.pk, encryption_key_id=row.encryption_key_id, **{column: stored})
        changed = unchanged.update(encryption_key_id=key_id, **{column: blob})
        if changed and not isinstance(row, CredentialToken):
            audit.record(COMMAND, "rotate", row, {"encryption_key_id": [row.encryption_key_id, key_id]})
    return changed


def _is(value: Any, kind: type) -> bool:
    return len(value) <= MAX_TEXT if kind is TEXT and isinstance(value, str) else isinstance(value, kind)


def _error(field: str, detail: str) -> dict[str, str]:
    return {"field": field, "code": "invalid", "detail": detail}


def _one_line(*fields: str) -> Callable[[dict[str, Any]], list[dict[str, str]]]:
    """Return a check that these fields can stand in one header line."""
    return lambda data: [
        _error(f"data.{name}", "must be one line of printable ASCII")
        for name in fields
        if not (data[name].isascii() and data[name].isprintable())
    ]


def _certificate(data: dict[str, Any]) -> list[dict[str, str]]:
    errors = []
    try:
        x509.load_pem_x509_certificates(data["cert"].encode())
    except ValueError:
        errors.append(_error("data.cert", "is not a PEM certificate"))
    try:
        load_pem_private_key(data["key"].encode(), password=None)
    except (ValueError, TypeError):
        errors.append(_error("data.key", "is not an unencrypted PEM private key"))
    return errors


def _token_url(data: dict[str, Any]) -> list[dict[str, str]]:
    url = data["token_url"]
    if url.startswith(("https://", "http://")) and url.isascii() and url.isprintable() and " " not in url:
        return []
    return [_error("data.token_url", "must be an http or https URL")]


SHAPES: dict[str, Callable[[dict[str, Any]], list[dict[str, str]]]] = {
    CredentialKind.API_KEY: _one_line("header", "value"),
    CredentialKind.BEARER: _one_line("token"),
    CredentialKind.OAUTH2_CLIENT: _token_url,
    CredentialKind.MTLS: _certificate,
}
