"""What a listener must look like: each rule names the field at fault, the same through every door."""

import contextlib
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q

from endpoints.access import secrets
from endpoints.access.principal import Principal
from endpoints.edge import strict_json
from endpoints.errors import ControlPlaneError, Malformed
from endpoints.models import CredentialKind, System
from endpoints.transports.framing import framing_faults
from messaging.intake.fields import check_content_type, check_target
from messaging.listening.framing import ack_bytes, framing_config
from messaging.listening.mapping import mapping_faults
from messaging.listening.opening import ENDS
from messaging.listening.signatures import SCHEMES
from messaging.listening.tls import server_context
from messaging.models import Envelope, Listener, ListenerAck, ListenerKind

Fault = tuple[str, str]
MAX_LISTED = 100
FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
SECRETS = {
    ListenerKind.TCP: (CredentialKind.MTLS,),
    ListenerKind.UDP: (),
    ListenerKind.HOOK: (CredentialKind.HMAC, CredentialKind.BEARER),
}


def check(listener: Listener, by: Principal) -> None:
    """Raise Malformed naming every field at fault."""
    faults = [*_columns(listener)]
    if not faults:
        faults = [fault for rule in RULES for fault in rule(listener, by)]
    if faults:
        errors = [{"field": field, "code": "invalid", "detail": detail} for field, detail in faults[:20]]
        told = "; ".join(f"{field}: {detail}" for field, detail in faults[:5])
        raise Malformed(told, code="invalid", errors=errors)


def _columns(listener: Listener) -> Iterator[Fault]:
    try:
        listener.clean_fields()
    except ValidationError as exc:
        yield from ((field, text) for field, texts in exc.message_dict.items() for text in texts)
    for name in ("addresses", "certificates", "fields"):
        try:
            strict_json.parse(strict_json.dumps(getattr(listener, name)))
        except (ControlPlaneError, TypeError, ValueError):
            yield name, "must be JSON that can be stored"
    for name in ("addresses", "certificates"):
        value = getattr(listener, name)
        if not isinstance(value, list) or len(value) > MAX_LISTED or not all(isinstance(item, str) for item in value):
            yield name, f"must be a list of at most {MAX_LISTED} texts"


def _address(listener: Listener, by: Principal) -> Iterator[Fault]:
    if listener.kind == ListenerKind.HOOK:
        if listener.port is not None:
            yield "port", f"a hook has none: it is called at /in/{listener.slug}/"
        return
    try:
        ipaddress.ip_address(listener.host)
    except ValueError:
        yield "host", "must be an address of this machine: 127.0.0.1, 0.0.0.0 for all of IPv4, or an IPv6 address"
    if listener.port is None:
        yield "port", "give a port"
    elif listener.port == (urlsplit(settings.ENV.public_url).port or 0) and listener.kind == ListenerKind.TCP:
        yield "port", "is the port of our own pages and API"


def _clear(listener: Listener, by: Principal) -> Iterator[Fault]:
    """Keys in the clear must not leave this machine where it counts; nor may a hook take whatever anybody sends."""
    if settings.ENV.environment != "production":
        return
    if listener.kind == ListenerKind.HOOK:
        if listener.signature == "none" and not listener.addresses:
            yield "signature", "'none' needs addresses in production: else anybody may send as this system"
    elif listener.kind == ListenerKind.TCP and not (_is_raw(listener) or listener.tls):
        with contextlib.suppress(ValueError):  # said by another rule
            if not ipaddress.ip_address(listener.host).is_loopback:
                yield "tls", "is needed in production: senders show their keys, and others may listen"


def _taken(listener: Listener, by: Principal) -> Iterator[Fault]:
    """Two rows may share an address only if each is for senders of its own, and both read the stream alike."""
    if listener.kind == ListenerKind.HOOK:
        return
    everywhere = {"0.0.0.0": 4, "::": 6}  # noqa: S104 - compared with, not bound
    for other in Listener.objects.filter(kind=listener.kind, port=listener.port).exclude(pk=listener.pk):
        if other.host != listener.host:
            if other.host in everywhere or listener.host in everywhere:
                yield "host", "another listener has this port, on all addresses or on one of them"
                return
            continue
        if not (_is_raw(listener) and _is_raw(other)):
            yield "port", "another listener has this address and port"
            return
        if _wire(listener) != _wire(other):
            yield "framing", "another listener of this address and port reads it in another way"
            return
        if _overlap(listener.addresses, other.addresses) or set(listener.certificates) & set(other.certificates):
            yield "addresses", "overlap with those of another listener of this address and port"
            return


def _wire(listener: Listener) -> tuple[Any, ...]:
    return (
        *(listener.framing, listener.size, listener.delimiter, listener.tls),
        *(listener.credential_id, listener.client_ca),
    )


def _framing(listener: Listener, by: Principal) -> Iterator[Fault]:
    if listener.kind != ListenerKind.TCP:
        return
    if not _is_raw(listener) and listener.framing not in ENDS:
        yield "framing", f"our envelope comes in one of {', '.join(ENDS)}"
        return
    yield from framing_faults(listener.framing, framing_config(listener))


def _tls(listener: Listener, by: Principal) -> Iterator[Fault]:
    """A server needs its certificate; names of clients count only if an authority vouches for them."""
    if listener.kind != ListenerKind.TCP or not listener.tls:
        if listener.tls:
            yield "tls", "is for listeners of kind tcp"
        if listener.client_ca:
            yield "client_ca", "needs tls"
        if listener.certificates:
            yield "certificates", "need tls and client_ca"
        return
    if listener.credential is None:
        yield "credential", "tls needs one of kind mtls: the server's certificate chain and key"
        return
    if listener.certificates and not listener.client_ca:
        yield "client_ca", "is needed to know clients by their certificates"
    for name in listener.certificates:
        if name.startswith("sha256:") and not FINGERPRINT.fullmatch(name):
            yield "certificates", "a fingerprint is sha256: and 64 lower-case hexadecimal digits"
    if listener.credential.kind == CredentialKind.MTLS:
        data = secrets.decrypt(listener.credential.data)
        try:
            server_context(data["cert"], data["key"], listener.client_ca)
        except ValueError as exc:
            yield ("client_ca" if "authorities" in str(exc) else "credential"), str(exc)


def _credential(listener: Listener, by: Principal) -> Iterator[Fault]:
    found = listener.credential
    if found is None:
        return
    owner = listener.system.owner_id if listener.system else None
    if not by.sees_team(found.owner_id):
        yield "credential", "there is no such credential"
    elif found.owner_id not in (None, owner):
        yield "credential", "belongs to another owner than the system"
    elif found.kind not in SECRETS[ListenerKind(listener.kind)]:
        kinds = " or ".join(SECRETS[ListenerKind(listener.kind)])
        yield "credential", f"must be of kind {kinds}" if kinds else "datagrams are signed with signing keys"


def _sender(listener: Listener, by: Principal) -> Iterator[Fault]:
    """Say who sends: a key or a signature does it for our envelope, else the row must."""
    if listener.kind != ListenerKind.HOOK and not _is_raw(listener):
        for name in ("system", "target", "event_type", "content_type", "addresses", "certificates"):
            if getattr(listener, name):
                yield name, "a sender that speaks our envelope says so itself; this is for `envelope: none`"
        return
    if listener.system is None:
        yield "system", "is missing: whose messages these are"
    elif not by.sees_team(listener.system.owner_id):
        yield "system", "there is no such system"
    if listener.kind != ListenerKind.HOOK and not (listener.addresses or listener.certificates):
        yield "addresses", "name the networks that the sender is known by, such as 10.1.0.0/16"
    for text in listener.addresses:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            yield "addresses", f"'{text[:50]}' is not a network such as 10.1.0.0/16"
            return
        if network.version == 6 and (plain := network.network_address.ipv4_mapped):
            size = max(network.prefixlen - 96, 0)
            yield "addresses", f"'{text[:50]}' matches nobody: senders over IPv4 are known as such; say {plain}/{size}"
    if _overlap(listener.addresses, None):
        yield "addresses", "overlap each other"


def _envelope(listener: Listener, by: Principal) -> Iterator[Fault]:
    for name, rule in (("target", check_target), ("content_type", check_content_type)):
        value = getattr(listener, name)
        if value:
            try:
                rule(value)
            except ValueError as exc:
                yield name, str(exc)
    if not listener.event_type.isprintable():
        yield "event_type", "must not hold control characters"
    slug = listener.target.partition("/")[0]
    if slug and not System.objects.visible_to(by).filter(Q(slug=slug)).exists():
        yield "target", f"there is no system '{slug}'"


def _ack(listener: Listener, by: Principal) -> Iterator[Fault]:
    if listener.ack == ListenerAck.NONE:
        if listener.ack_text:
            yield "ack_text", "is for `ack: text`"
        return
    if listener.kind != ListenerKind.TCP or not _is_raw(listener):
        yield "ack", "is for listeners of kind tcp with `envelope: none`"
    elif listener.ack == ListenerAck.TEXT:
        try:
            ack_bytes(listener.ack_text)
        except ValueError as exc:
            yield "ack_text", str(exc)
    elif listener.framing != "mllp":
        yield "ack", "mllp goes with the framing mllp"


def _hook(listener: Listener, by: Principal) -> Iterator[Fault]:
    if listener.kind != ListenerKind.HOOK:
        if listener.fields:
            yield "fields", "are mapped for hooks"
        if listener.signature not in ("", "none"):
            yield "signature", "is for hooks"
        return
    if listener.signature not in SCHEMES:
        yield "signature", f"must be one of {', '.join(SCHEMES)}"
    yield from (("fields", fault) for fault in mapping_faults(listener.fields))


RULES: tuple[Callable[[Listener, Principal], Iterator[Fault]], ...] = (
    *(_address, _clear, _framing, _tls, _credential, _sender, _envelope, _ack, _hook, _taken),
)


def _is_raw(listener: Listener) -> bool:
    return listener.envelope == Envelope.NONE


def _overlap(one: list[str], other: list[str] | None) -> bool:
    """Say whether two lists of networks share an address, or one list names an address twice."""
    try:
        first = [ipaddress.ip_network(text) for text in one]
        second = None if other is None else [ipaddress.ip_network(text) for text in other]
    except ValueError:
        return False  # told by its own rule
    if second is None:
        pairs = [(first[i], first[j]) for i in range(len(first)) for j in range(i)]
    else:
        pairs = [(left, right) for left in first for right in second]
    return any(left.version == right.version and left.overlaps(right) for left, right in pairs)
