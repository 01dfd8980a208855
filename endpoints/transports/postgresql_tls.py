"""What libpq is told of TLS; it reads certificates from files only, so they lie in some while it connects."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from endpoints.transports.base import Address

SYSTEM_STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@contextmanager
def tls_settings(address: Address) -> Iterator[dict[str, str]]:
    """Yield libpq's settings: without `tls` in the config no TLS, with it a certificate that is verified.

    Over a plain line a password is never sent in clear, whatever the server asks for.
    """
    tls = address.config.get("tls")
    if tls is None:
        yield {"sslmode": "disable", "require_auth": "!password"}
        return
    own = address.credential
    certificate = address.client_credential or (own if own is not None and own.kind == "mtls" else None)
    with ExitStack() as files:
        found = {"sslmode": "verify-full" if tls.get("verify", True) else "require", "sslcertmode": "disable"}
        if tls.get("verify", True):
            found["sslrootcert"] = _file(files, str(tls["ca"])) if tls.get("ca") else _system_store()
        if tls.get("server_name"):
            found["host"] = str(tls["server_name"])
        if certificate is not None:
            found |= {
                "sslcertmode": "require",
                "sslcert": _file(files, str(certificate.data["cert"])),
                "sslkey": _file(files, str(certificate.data["key"])),
            }
        yield found


def _file(files: ExitStack, text: str) -> str:
    made = files.enter_context(tempfile.NamedTemporaryFile("w", suffix=".pem"))  # noqa: SIM115 - the stack closes it
    made.write(f"{text}\n")
    made.flush()
    return str(made.name)


def _system_store() -> str:
    """Return what the system trusts; libpq's own OpenSSL looks elsewhere."""
    paths = ssl.get_default_verify_paths()
    known = [os.environ.get("SSL_CERT_FILE"), paths.cafile, *SYSTEM_STORES]
    return next((path for path in known if path and os.path.exists(path)), "system")
