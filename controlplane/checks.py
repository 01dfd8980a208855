"""What `doctor` looks at: one function a subject, each returning findings with what to do."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.core import checks as django_checks
from django.db import DatabaseError, connection
from django.utils.module_loading import import_string

from controlplane import schema
from controlplane.database_trouble import reason
from controlplane.env import read
from controlplane.env_table import DEVELOPMENT
from controlplane.runfile import Run
from controlplane.safety import unsafe
from messaging.services import status as installation

LEAST_FREE = 1024**3
GOOD, WARNING, BAD = "good", "warning", "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `do` says what to do unless it is good."""

    level: str
    subject: str
    text: str
    do: str = ""


def settings_fit(profile: str) -> Iterator[Finding]:
    """Judge the settings as the named profile would."""
    # Read again: development fills gaps that another profile would not.
    problems = unsafe(read({**os.environ, "CONTROLPLANE_ENVIRONMENT": profile}))
    for problem in problems:
        yield Finding(BAD, problem.name, f"{problem.id}: {problem.what}", problem.do)
    if not problems:
        yield Finding(GOOD, "settings", f"fit for {profile}")
    if profile == DEVELOPMENT and "CONTROLPLANE_EGRESS_ZONES" not in settings.ENV.given:
        yield Finding(
            WARNING,
            "egress",
            "development may reach loopback and private networks",
            "Name the zones in CONTROLPLANE_EGRESS_ZONES; in production none are open by default.",
        )


def database(profile: str) -> Iterator[Finding]:
    """See whether the database answers, fits the code, and keeps what it acknowledges."""
    try:
        connection.ensure_connection()
        newer, pending = schema.newer_than_code(), schema.pending()
    except DatabaseError as error:
        yield Finding(
            BAD, "database", f"does not answer: {reason(error)}", "Check DATABASE_URL and that the server runs."
        )
        return
    if newer:
        yield Finding(BAD, "database", f"was migrated by a newer version: {', '.join(newer)}", "Install that version.")
    elif pending:
        yield Finding(BAD, "database", f"{len(pending)} migrations are missing", "Run: controlplane migrate")
    else:
        yield Finding(GOOD, "database", f"{connection.display_name} answers and is migrated")
    if connection.vendor == "sqlite" and profile != DEVELOPMENT:
        yield Finding(WARNING, "database", "SQLite serves one machine", "Use PostgreSQL to grow past it.")


def disk(profile: str) -> Iterator[Finding]:
    """See whether there is room to keep what is accepted."""
    free = shutil.disk_usage(settings.VAR_DIR).free
    text = f"{free / 1024**3:.1f} GiB free in {settings.VAR_DIR}"
    if free < LEAST_FREE:
        yield Finding(WARNING, "disk", text, "Make room, or shorten CONTROLPLANE_KEEP_BODIES_DAYS and run: prune")
    else:
        yield Finding(GOOD, "disk", text)


def private_files(profile: str) -> Iterator[Finding]:
    """See that nobody else reads the secrets kept in files."""
    for name in ("secret-key", "encryption-keys", "admin-password", "run/example-key"):
        path = settings.VAR_DIR / name
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding(BAD, str(path), "can be read by others", f"Run: chmod 600 {path}")
    if connection.vendor == "sqlite":  # one of before payloads were kept from others
        path = Path(str(connection.settings_dict["NAME"]))
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding(WARNING, str(path), "can be read by others, payloads and all", f"Run: chmod 600 {path}*")


def first_password(profile: str) -> Iterator[Finding]:
    """A password in a file is for the first login only."""
    path = settings.VAR_DIR / "admin-password"
    if path.exists() and profile != DEVELOPMENT:
        yield Finding(WARNING, str(path), "holds the first password", "Change it in the admin and delete the file.")


def people(profile: str) -> Iterator[Finding]:
    """See that somebody can get in."""
    if not User.objects.filter(is_superuser=True, is_active=True).exists():
        yield Finding(WARNING, "people", "there is no administrator", "`controlplane up` makes the first one.")


def processes(profile: str) -> Iterator[Finding]:
    """Say how the installation is doing."""
    found = installation.status()
    if found["state"] == "healthy":
        yield Finding(GOOD, "processes", "healthy")
    elif not Run(settings.VAR_DIR).is_held():
        yield Finding(WARNING, "processes", "nothing is started here", "Run: controlplane up")
    else:
        yield from (
            Finding(BAD, "processes", reason, "Read the log of `controlplane up`.") for reason in found["reasons"]
        )


def transports(profile: str) -> Iterator[Finding]:
    """See that every protocol's class can be loaded here."""
    from endpoints.transports import TRANSPORTS

    for protocol, path in TRANSPORTS.items():
        try:
            import_string(path)
        except ImportError as error:
            yield Finding(WARNING, protocol, f"cannot be spoken: {error}", "Install the extra that brings it.")


def framework(profile: str) -> Iterator[Finding]:
    """Pass on what Django's own checks say."""
    yield from _passed_on(django_checks.run_checks())


def stored_secrets(profile: str) -> Iterator[Finding]:
    """Pass on the checks that look into the database: whether every stored secret can still be opened."""
    yield from _passed_on(django_checks.run_checks(tags=[django_checks.Tags.database], databases=["default"]))


def _passed_on(messages: Iterable[django_checks.CheckMessage]) -> Iterator[Finding]:
    for message in messages:
        level = BAD if message.level >= django_checks.ERROR else WARNING
        yield Finding(level, message.id or "django", message.msg, message.hint or "")


Subject = Callable[[str], Iterator[Finding]]
SUBJECTS: tuple[Subject, ...] = (settings_fit, private_files, first_password, disk, transports, framework)
IN_DATABASE: tuple[Subject, ...] = (stored_secrets, people, processes)


def examine(profile: str) -> list[Finding]:
    """Return every finding, as the named profile would judge it; what needs a database is left out without one."""
    found = [finding for subject in SUBJECTS for finding in subject(profile)]
    stored = list(database(profile))
    subjects = () if any(finding.level == BAD for finding in stored) else IN_DATABASE
    return [*found, *stored, *(finding for subject in subjects for finding in subject(profile))]
