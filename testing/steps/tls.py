"""`tls: api`: the handshake of an endpoint, and the certificate that it shows."""

import asyncio
import ssl
import time
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from cryptography import x509
from cryptography.x509.oid import NameOID

from endpoints.egress import default_egress
from endpoints.transports.base import Address, ErrorClass, TransportError
from endpoints.transports.failures import translated
from endpoints.transports.tls import endpoint_context
from testing.assertions.observation import Observation
from testing.document.kinds import Field, Kind, Shape, text
from testing.steps.base import CannotRun, StepAction, Tools

DEFAULT_PORT = 443


class TlsStep(StepAction):
    """Verified as a delivery would verify it: a certificate that is refused is `error.class: tls`."""

    SHAPE: ClassVar[Kind] = Shape(
        {"system": Field(text(63), "The alias of the system to connect to.", required=True)}, short="system"
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("tls", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    async def run(self, params: Any, tools: Tools) -> Observation:
        address = (await tools.transport(params["system"])).address
        started = time.perf_counter()
        seen = Observation(request={"host": address.host, "port": address.port or DEFAULT_PORT})
        try:
            with translated(address.host):
                seen.tls = await _handshake(address)
        except TransportError as exc:
            if exc.error_class == ErrorClass.BLOCKED_ADDRESS:
                raise CannotRun(exc.detail, exc.error_class.value) from exc
            seen.error_class, seen.error, seen.no_answer = exc.error_class.value, exc.detail, True
        seen.latency_ms = (time.perf_counter() - started) * 1000
        return seen


class _Greeting(asyncio.Protocol):
    """A connection that says nothing: only its handshake is of interest."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent


async def _handshake(address: Address) -> dict[str, Any]:
    server_name = (address.config.get("tls") or {}).get("server_name")
    connected = await default_egress().connect(
        _Greeting, address.host, address.port or DEFAULT_PORT, tls=endpoint_context(address), server_name=server_name
    )
    try:
        session: ssl.SSLObject = connected.transport.get_extra_info("ssl_object")
        shown = session.getpeercert(binary_form=True)
        cipher = session.cipher()
        found = {"version": session.version(), "cipher": cipher[0] if cipher else None}
        return found | (_certificate(shown) if shown else {})
    finally:
        connected.transport.abort()


def _certificate(shown: bytes) -> dict[str, Any]:
    """Return what there is to assert of a certificate; `days_left` is what is left of its time."""
    found = x509.load_der_x509_certificate(shown)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        listed = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        listed = []
    left = found.not_valid_after_utc - datetime.now(UTC)
    return {
        "subject": _common_name(found.subject),
        "issuer": _common_name(found.issuer),
        "names": listed,
        "not_before": found.not_valid_before_utc.isoformat(),
        "not_after": found.not_valid_after_utc.isoformat(),
        "days_left": round(left.total_seconds() / 86400, 2),
    }


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
