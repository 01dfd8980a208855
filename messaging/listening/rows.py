"""The registered listeners as this process needs them: read from the table, secrets opened, senders put together."""

import ipaddress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from endpoints.access import secrets
from endpoints.access.signed import speaker
from endpoints.errors import ControlPlaneError
from endpoints.models import SystemState
from messaging.listening.devices import Device
from messaging.listening.framing import ack_bytes, framing_config
from messaging.models import Envelope, Framing, Listener, ListenerAck, ListenerKind

Stamp = tuple[Any, ...]
Place = tuple[str, str, int]
HL7 = "application/hl7-v2"
BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Row:
    """One listener of kind tcp or udp, as it is to be served."""

    id: UUID
    slug: str
    place: Place  # kind, host, port
    framing: str
    config: tuple[tuple[str, Any], ...]
    device: Device | None  # None: whoever comes speaks our envelope
    tls: tuple[str, str, str] | None  # certificate, key, authorities of clients


def glance() -> Stamp:
    """Return what changes with any listener, or with what one is made of; one cheap query."""
    columns = ("pk", "updated_at", "credential__updated_at", "system__updated_at")
    return tuple(served().order_by("pk").values_list(*columns))


def served() -> Any:
    """Return the listeners that a socket is open for."""
    kinds = (ListenerKind.TCP, ListenerKind.UDP)
    return Listener.objects.filter(enabled=True, kind__in=kinds).exclude(system__state=SystemState.RETIRED)


def load() -> tuple[dict[Place, list[Row]], dict[UUID, str]]:
    """Return the rows to serve by their address, and why others cannot be."""
    rows: dict[Place, list[Row]] = {}
    problems: dict[UUID, str] = {}
    for listener in served().select_related("system", "credential").order_by("slug"):
        try:
            row = _row(listener)
        except (ControlPlaneError, ValueError, KeyError) as exc:  # one row must not close the others
            problems[listener.pk] = f"{type(exc).__name__}: {exc}"[:300]
            continue
        rows.setdefault(row.place, []).append(row)
    return rows, problems


def _row(listener: Listener) -> Row:
    tls = None
    if listener.tls and listener.credential is not None:
        data = secrets.decrypt(listener.credential.data)
        tls = (str(data["cert"]), str(data["key"]), listener.client_ca)
    return Row(
        id=listener.pk,
        slug=listener.slug,
        place=(listener.kind, listener.host, listener.port or 0),
        framing=listener.framing,
        config=tuple(sorted(framing_config(listener).items())),
        device=device_of(listener) if listener.envelope == Envelope.NONE else None,
        tls=tls,
    )


def device_of(listener: Listener) -> Device:
    """Return the senders of a listener that knows its system by itself."""
    assert listener.system is not None
    is_hl7 = listener.kind == ListenerKind.TCP and listener.framing == Framing.MLLP
    return Device(
        networks=tuple(ipaddress.ip_network(text) for text in listener.addresses),
        certificates=frozenset(listener.certificates),
        principal=speaker(listener.system, f"listener:{listener.slug}", "listener"),
        target=listener.target,
        message_type=listener.message_type,
        event_type=listener.event_type,
        content_type=listener.content_type or (HL7 if is_hl7 else BYTES),
        ack=listener.ack,
        ack_bytes=ack_bytes(listener.ack_text) if listener.ack == ListenerAck.TEXT else b"",
        cap=listener.system.max_message_bytes,
    )
