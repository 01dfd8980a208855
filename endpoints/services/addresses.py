"""An endpoint as a transport needs it: with its secrets opened, for as short as it is used."""

from datetime import datetime

from endpoints.access import secrets
from endpoints.errors import Refused
from endpoints.models import Credential, Endpoint, Inbox
from endpoints.services.ownership import credentials_of
from endpoints.transports import transport_class
from endpoints.transports.base import Address, Secret


def address_of(endpoint: Endpoint) -> Address:
    """Return the address of an endpoint, credentials decrypted; never log or store it.

    Raises Refused when its config names a credential that is gone, and
    SecretsUnavailable when a secret cannot be opened.
    """
    opened: dict[str, list[Secret]] = {}
    for field, credential in credentials_of(endpoint):
        if credential is None or credential.owner_id not in (None, endpoint.system.owner_id):
            raise Refused(f"{field} of endpoint {endpoint} names no credential it may use", code="unknown_credential")
        opened.setdefault(field, []).append(_secret(credential))
    return Address(
        id=str(endpoint.pk),
        system=endpoint.system.slug,
        interface=endpoint.interface,
        protocol=endpoint.protocol,
        host=endpoint.host,
        port=endpoint.port,
        path=endpoint.path,
        config=endpoint.config,
        timeout_s=endpoint.timeout_s,
        max_in_flight=endpoint.max_in_flight,
        max_reply_bytes=endpoint.system.max_message_bytes,
        credential=_first(opened.get("credential")),
        signing=tuple(opened.get("config.signing_credential", ())),
        client_credential=_first(opened.get("config.tls.client_credential")),
        asked_at=_asked_at(endpoint),
    )


def _asked_at(endpoint: Endpoint) -> datetime | None:
    if transport_class(endpoint.protocol).CLAIMED_BY != "receiver":
        return None
    return Inbox.objects.filter(pk=endpoint.pk).values_list("asked_at", flat=True).first()


def _secret(credential: Credential) -> Secret:
    return Secret(
        id=str(credential.pk),
        name=credential.name,
        kind=credential.kind,
        data=secrets.decrypt(credential.data),
    )


def _first(found: list[Secret] | None) -> Secret | None:
    return found[0] if found else None
