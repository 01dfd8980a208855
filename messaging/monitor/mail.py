"""A notice as a mail, handed to the server that EMAIL_URL names, over an address that egress has checked."""

import asyncio
import smtplib
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.smtp import EmailBackend

from endpoints.egress import default_egress
from endpoints.models import Notice
from endpoints.services.notices import NO_SERVER
from endpoints.transports.base import TransportError

TIMEOUT_S = 20.0
LONGEST_SUBJECT = 150
SMTP = "django.core.mail.backends.smtp.EmailBackend"


class MailError(Exception):
    """The mail server did not take a mail; trying again may help."""


def send(notice: Notice) -> None:
    """Mail one notice; raises MailError."""
    assert notice.target is not None
    if "EMAIL_URL" not in settings.ENV.given:
        raise MailError(NO_SERVER)
    text = str(notice.payload["text"])
    message = EmailMessage(
        subject=_subject(text),
        body=text,
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[notice.target.email],
        headers={"Message-ID": f"<notice-{notice.pk}@controlplane>", "Auto-Submitted": "auto-generated"},
        connection=_connection(),
    )
    try:
        message.send()
    except (smtplib.SMTPException, OSError, TransportError) as exc:
        raise MailError(f"{type(exc).__name__}: {exc}") from exc


def _subject(text: str) -> str:
    """Return the first line, fit for a header: what an error said may hold control characters, a bare CR among them."""
    line = text.partition("\n")[0]
    return " ".join("".join(char if char.isprintable() else " " for char in line).split())[:LONGEST_SUBJECT]


def _connection() -> Any:
    return CheckedBackend(timeout=TIMEOUT_S) if settings.EMAIL_BACKEND == SMTP else get_connection()


class CheckedBackend(EmailBackend):
    """Django's own, but that it connects only to an address that egress has checked."""

    @property
    def connection_class(self) -> Any:
        return CheckedSMTPS if self.use_ssl else CheckedSMTP


class CheckedSMTP(smtplib.SMTP):
    """Keeps the server's name for TLS and connects to its checked address."""

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        return super()._get_socket(_checked(host, port), port, timeout)  # type: ignore[misc]


class CheckedSMTPS(smtplib.SMTP_SSL):
    """The same with TLS from the start: the certificate is compared with the name, which smtplib keeps."""

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        plain = smtplib.SMTP._get_socket(self, _checked(host, port), port, timeout)  # type: ignore[attr-defined]
        return self.context.wrap_socket(plain, server_hostname=host)


def _checked(host: str, port: int) -> str:
    """Return the address to connect to; raises TransportError for one we do not speak to."""
    return asyncio.run(default_egress().resolve(host, port))[0].address
