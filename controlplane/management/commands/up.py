"""Prepare the installation, say where it is, and become its supervisor."""

import os
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connections

from controlplane import example, schema
from controlplane.first_admin import ensure_admin
from controlplane.runfile import AlreadyRunning, Run, can_listen
from controlplane.supervisor import DEFAULT_ROLES, ROLES
from endpoints.edge.arguments import MAX_PORT, whole


class Command(BaseCommand):
    help = (
        "Start this machine's processes and keep them running until SIGTERM or Ctrl-C. "
        "Exit codes: 0 stopped cleanly, 1 could not start, 2 bad settings or arguments."
    )
    requires_system_checks = []  # they import every page; run once, below

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
        parser.add_argument(
            "--port", type=whole(1, MAX_PORT), default=8000, help="port of the web process (default: %(default)s)"
        )
        parser.add_argument("--example", action="store_true", help="also run local systems that exchange messages")
        parser.add_argument(
            "--roles", nargs="+", choices=[role for role in ROLES if role != "example"], default=list(DEFAULT_ROLES)
        )

    def handle(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse early and clearly, migrate, make the first admin, then hand this pid to the supervisor."""
        host, port, roles = options["host"], options["port"], list(dict.fromkeys(options["roles"]))
        self._refuse_what_cannot_start(host, port, roles)
        url = self._public_url(host, port)
        call_command("migrate", interactive=False, verbosity=0)
        login = ensure_admin(settings.VAR_DIR)
        if options["example"]:
            roles += self._example()
        self._welcome(url, login)
        connections.close_all()
        supervise(host, port, url, roles)

    def _refuse_what_cannot_start(self, host: str, port: int, roles: list[str]) -> None:
        run = Run(settings.VAR_DIR)
        try:
            run.acquire()
        except AlreadyRunning as error:
            raise CommandError(str(error)) from None
        run.release()
        if "web" in roles and (problem := can_listen(host, port)):
            raise CommandError(problem)
        self.check()
        if unknown := schema.newer_than_code():
            raise CommandError(
                f"The database was migrated by a newer version ({', '.join(unknown)}). Install that version, or newer."
            )

    def _public_url(self, host: str, port: int) -> str:
        """Return the address for people; unless it was set, the one we listen at."""
        if "CONTROLPLANE_PUBLIC_URL" in settings.ENV.given:
            return str(settings.PUBLIC_URL)
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        os.environ["CONTROLPLANE_PUBLIC_URL"] = url = f"http://{shown}:{port}"
        return url

    def _example(self) -> list[str]:
        if refusal := example.prepare(settings.VAR_DIR):
            self.stdout.write(self.style.WARNING(f"  Example not started: {refusal}"))
            return []
        return ["example"]

    def _welcome(self, url: str, login: str | None) -> None:
        database = settings.DATABASES["default"]
        engine = "SQLite" if database["ENGINE"].endswith("sqlite3") else "PostgreSQL"
        lines = [("", f"Integration control plane, {settings.ENVIRONMENT}, {engine}"), ("Open", f"{url}/admin/")]
        if login is not None:
            lines += [("Log in", f"{url}{login}  (works once)"), ("", self._password())]
        lines += [
            ("API", f"{url}/api/v1/docs/"),
            ("Next", f"{program()} status"),
            ("", f"{program()} create_api_key mine --role operator"),
            ("Stop", f"Ctrl-C, or {program()} stop"),
        ]
        self.stdout.write("\n" + "\n".join(f"  {name:<8}{text}" for name, text in lines) + "\n")
        self.stdout.flush()

    def _password(self) -> str:
        path = settings.VAR_DIR / "admin-password"
        if settings.ENVIRONMENT == "production" or not path.exists():
            return f"the password of admin is in {path}"
        return f"or as admin with {path.read_text().strip()}  (kept in {path})"


def program() -> str:
    """Return what to type to run a command from here: the bare name where the shell finds it."""
    if shutil.which("controlplane"):
        return "controlplane"
    script = Path(sys.executable).with_name("controlplane")
    return os.path.relpath(script) if script.exists() else f"{sys.executable} manage.py"


def supervise(host: str, port: int, url: str, roles: list[str]) -> NoReturn:
    """Become the supervisor, in this very process: Django's memory is given back, the pid stays."""
    sys.stdout.flush()
    command = ["-m", "controlplane.supervisor", "--var", str(settings.VAR_DIR), "--host", host, "--port", str(port)]
    os.execv(sys.executable, [sys.executable, *command, "--url", url, *roles])  # noqa: S606
