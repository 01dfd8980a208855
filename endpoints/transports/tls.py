"""A client's TLS context from an endpoint's `tls` config and its client certificate."""

import ssl
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

from endpoints.transports.base import Address, ErrorClass, Secret, TransportError


@cache
def system_context() -> ssl.SSLContext:
    """Return the context that trusts what the system trusts; reading its store is slow, so it is shared."""
    return ssl.create_default_context()


def endpoint_context(address: Address) -> ssl.SSLContext:
    """Return the context of an endpoint: its `tls` config, and the certificate it is to show, however that is named."""
    own = address.credential
    certificate = address.client_credential or (own if own is not None and own.kind == "mtls" else None)
    return client_context(address.config.get("tls") or {}, certificate)


def client_context(tls: Mapping[str, Any], certificate: Secret | None) -> ssl.SSLContext:
    """Return the context for these settings; raises TransportError of class tls when they cannot be used."""
    if tls.get("verify", True) and not tls.get("ca") and certificate is None:
        return system_context()
    try:
        context = ssl.create_default_context(cadata=tls.get("ca") or None)
        if not tls.get("verify", True):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate is not None:
            _load(context, certificate)
    except (ssl.SSLError, ValueError, OSError) as exc:
        raise TransportError(f"the TLS settings cannot be used: {exc}", error_class=ErrorClass.TLS) from exc
    return context


def _load(context: ssl.SSLContext, certificate: Secret) -> None:
    """Load a client certificate; OpenSSL reads it from a file only, so it lies in one (mode 600) for a moment."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{certificate.data['key']}\n{certificate.data['cert']}\n")
        file.flush()
        context.load_cert_chain(file.name, password=lambda: b"")
