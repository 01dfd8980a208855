"""Try an endpoint or a credential now, on behalf of a person who is waiting for the answer."""

import asyncio
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import transaction

from endpoints.access import audit, roles, secrets
from endpoints.access.principal import Principal
from endpoints.models import Credential, Endpoint
from endpoints.services.addresses import address_of
from endpoints.transports import make_transport
from endpoints.transports.base import Address, Reply, Secret, TransportError
from endpoints.transports.credentials import authorization

DEADLINE_S = 30.0
MAX_SAID = 200


@dataclass(frozen=True, slots=True)
class Trial:
    """How a try ended: `error_class` is empty when it went well, `detail` what was said then, if anything."""

    ok: bool
    took_ms: float
    status_code: int | None = None
    error_class: str = ""
    detail: str = ""
    phases_ms: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def probe(endpoint: Endpoint, *, by: Principal) -> Trial:
    """Ask an endpoint whether it is there; the answer is told, not stored."""
    roles.require(by, "endpoints", "probe")
    address = address_of(endpoint)
    with transaction.atomic():
        audit.record(by, "probe", endpoint)
    # The one crossing from here into the transports' loop: no network inside a transaction.
    return asyncio.run(_probe(address))


def test_credential(credential: Credential, *, by: Principal) -> Trial:
    """Open a credential and make what it would add to a request; OAuth 2 gets its token for that."""
    roles.require(by, "credentials", "test")
    secret = Secret(
        id=str(credential.pk), name=credential.name, kind=credential.kind, data=secrets.decrypt(credential.data)
    )
    with transaction.atomic():
        audit.record(by, "test", credential)
    return asyncio.run(_authorize(secret))


async def _probe(address: Address) -> Trial:
    started = time.perf_counter()
    transport = make_transport(address)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await transport.open()
            return _told(await transport.probe())
    except (TransportError, TimeoutError) as exc:
        return _failed(exc, started)
    finally:
        await transport.aclose()


async def _authorize(secret: Secret) -> Trial:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(DEADLINE_S):
            await authorization(secret, audience="").headers(b"")
    except (TransportError, TimeoutError) as exc:
        return _failed(exc, started)
    return Trial(ok=True, took_ms=_since(started))


def _told(reply: Reply) -> Trial:
    detail = reply.body[:MAX_SAID].decode(errors="replace")
    return Trial(True, reply.took_ms, reply.status_code, detail=detail, phases_ms=dict(reply.phases_ms))


def _failed(exc: TransportError | TimeoutError, started: float) -> Trial:
    if isinstance(exc, TimeoutError):
        return Trial(False, _since(started), error_class="timeout", detail=f"no answer within {DEADLINE_S:.0f} s")
    status = exc.reply.status_code if exc.reply else None
    return Trial(False, _since(started), status, exc.error_class.value, exc.detail, dict(exc.phases_ms))


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
