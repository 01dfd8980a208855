"""A certificate authority for one test, and what it signs."""

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Certificate:
    """Certificate and key, both PEM."""

    cert: str
    key: str


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates that its own clients and servers trust."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = self._sign(_name("test authority"), self._key.public_key(), is_authority=True)
        self.pem = self._cert.public_bytes(Encoding.PEM).decode()

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name("test authority"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(str(name))]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def certificate(self, name: str) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(_name(name), key.public_key())
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Certificate(cert.public_bytes(Encoding.PEM).decode(), text)

    def client_context(self, certificate: Certificate | None) -> ssl.SSLContext:
        """Return a client's context that trusts this authority and shows `certificate`."""
        context = ssl.create_default_context(cadata=self.pem)
        if certificate is not None:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(certificate.key + certificate.cert)
                file.flush()
                context.load_cert_chain(file.name)
        return context
