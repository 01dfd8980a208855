"""A server's TLS context, and who a client's certificate says it is."""

import hashlib
import ssl
import tempfile
from pathlib import Path
from typing import Any


def server_context(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """Return the context for this certificate chain and key (PEM); with `client_ca` clients must show one of theirs.

    Raises ValueError naming what cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # OpenSSL reads them from a file only, so they lie in one (mode 600) for a moment.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{key}\n{certificate}\n")
            file.flush()
            context.load_cert_chain(file.name, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as exc:
        raise ValueError(f"the certificate and key cannot be used: {exc}") from exc
    if client_ca:
        try:
            context.load_verify_locations(cadata=client_ca)
        except (ssl.SSLError, ValueError) as exc:
            raise ValueError(f"the authorities of clients cannot be used: {exc}") from exc
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def context_of_files(certificate: str, key: str) -> ssl.SSLContext:
    """Return the context for these two files; raises ValueError."""
    try:
        return server_context(Path(certificate).read_text(), Path(key).read_text())
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot be read: {exc}") from exc


def names_of(connection: Any) -> frozenset[str]:
    """Return what a client's certificate is known by: `sha256:<fingerprint>`, its common name, its DNS names."""
    if connection is None or not (binary := connection.getpeercert(binary_form=True)):
        return frozenset()
    found = {f"sha256:{hashlib.sha256(binary).hexdigest()}"}
    told = connection.getpeercert() or {}
    found |= {value for part in told.get("subject", ()) for name, value in part if name == "commonName"}
    found |= {value for kind, value in told.get("subjectAltName", ()) if kind == "DNS"}
    return frozenset(found)
