"""The control plane as real processes on its own database; tests enter as users do: HTTP, commands, signals."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import orjson
import psutil
import psycopg
import requests

from controlplane.sqlite3.queue import WriteQueue
from tests import warm
from tests.servers.ports import free_port
from tests.warm import ROOT

PYTHON = sys.executable
SERVICES = ROOT / "var" / "services" / "env"
POLL_S = 0.02
PATIENCE_S = 60  # for what is not timed: a busy machine is late
START_S = 60  # four of them at once on a small machine
STOP_S = 35  # the longest clean stop under load, and a little

Found = TypeVar("Found")


class Timeout(AssertionError):
    """Something awaited did not happen in time."""


def wait_for(predicate: Callable[[], Found], timeout: float = PATIENCE_S, what: str = "") -> Found:
    """Return the first truthy value of `predicate`; raises Timeout naming `what` and the last value."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout:g} s: {what or predicate}; last value {value!r}")
        time.sleep(POLL_S)


def postgres_server() -> str | None:
    """Return the test server's URL: from the environment, else as `make services` left it."""
    if url := os.environ.get("TEST_POSTGRES_URL"):
        return url
    if SERVICES.exists():
        for line in SERVICES.read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "TEST_POSTGRES_URL":
                return value.strip("'\"")
    return None


def environment(var: Path, database_url: str, **more: str) -> dict[str, str]:
    """Return the environment of our processes: nothing of the developer's own settings leaks in."""
    own = ("CONTROLPLANE_", "DATABASE_URL", "SECRET_KEY", "REDIS_URL", "CELERY_", "DJANGO_", "PYTEST_", "COV_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        **inherited,
        "CONTROLPLANE_VAR": str(var),
        "DATABASE_URL": database_url,
        "CONTROLPLANE_LOG_FORMAT": "text",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def run(args: list[str], env: dict[str, str], timeout: float = 60) -> "subprocess.CompletedProcess[str]":
    """Run a command of the control plane to its end."""
    return warm.run(["manage.py", *args], env, timeout)


class Databases:
    """Fresh, migrated databases of one engine, cloned from one that was migrated once.

    All test processes of a run share it, by a folder: the first to need it migrates, the last to end drops it.
    """

    def __init__(self, root: Path, server: str | None, shared: Path | None = None) -> None:
        self.root, self.server, self.shared = root, server, shared or root
        self.users: Any = None

    def url(self, name: str) -> str:
        """Return the DATABASE_URL of the database called `name`."""
        if self.server is None:
            return f"sqlite:///{self.root}/{name}.sqlite3"
        parts = urlsplit(self.server)
        return urlunsplit(parts._replace(path=f"/{name}"))

    def _admin(self, statement: str) -> None:
        assert self.server is not None
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(statement)

    @property
    def _name(self) -> Path:
        """Where the name of the template stands, while there is one."""
        return self.shared / f"template-{sha256((self.server or 'sqlite').encode()).hexdigest()[:12]}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._name.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            yield

    @property
    def template(self) -> str:
        """Return the name of the migrated database, which lives at least as long as we do not `close`."""
        if self.users is None:
            with self._alone():
                if not self._name.exists():
                    self._name.write_text(self._migrated())
                self.users = self._name.with_suffix(".users").open("w")
                flock(self.users, LOCK_SH)
        return self._name.read_text()

    def _migrated(self) -> str:
        name = f"cp_template_{uuid4().hex[:12]}"
        url = f"sqlite:///{self.shared}/{name}.sqlite3" if self.server is None else self.url(name)
        if self.server is not None:
            self._admin(f'CREATE DATABASE "{name}"')
        done = run(["migrate", "--verbosity=0"], environment(self.root / "template", url), 120)
        assert done.returncode == 0, done.stderr
        return name

    def copy(self, name: str) -> Path:
        """Make the file of a migrated SQLite database and return where it is."""
        return Path(shutil.copy(self.shared / f"{self.template}.sqlite3", self.root / f"{name}.sqlite3"))

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Yield the URL of a migrated database that nobody else uses, and drop it afterwards."""
        name = f"cp_{uuid4().hex[:12]}"
        if self.server is None:
            self.copy(name)
            yield self.url(name)
            return
        self._admin(f'CREATE DATABASE "{name}" TEMPLATE "{self.template}"')
        try:
            yield self.url(name)
        finally:
            self._admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Drop the template, unless another still uses it."""
        if self.users is None:
            return
        with self._alone(), self.users, suppress(BlockingIOError):
            flock(self.users, LOCK_EX | LOCK_NB)
            if self.server is not None:
                self._admin(f'DROP DATABASE IF EXISTS "{self._name.read_text()}" WITH (FORCE)')
            self._name.unlink()


class Stack:
    """Processes of one installation; `start` what the test needs."""

    def __init__(self, var: Path, database_url: str, **settings: str) -> None:
        var.mkdir(parents=True, exist_ok=True)
        self.var, self.database_url, self.port = var, database_url, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"CONTROLPLANE_PUBLIC_URL": self.url, **settings}
        self.env = environment(var, database_url, **settings)
        self.processes: dict[str, warm.Process] = {}
        self._keys: dict[tuple[tuple[str, str], ...], str] = {}
        self.session = requests.Session()
        self.session.trust_env = False

    # -- processes

    def argv(self, role: str, *args: str, planted: tuple[str, int] | None = None) -> list[str]:
        """Return the command line of a role, for `python`; `planted` is (point, nth) of `tests.acceptance.crashing`."""
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        if planted:
            words = [*map(str, planted), role, *(address if role == "web" else ()), *args]
            return ["-m", "tests.acceptance.crashing", *words]
        special = {
            "web": ["-m", "controlplane.web", *address],
            "up": ["manage.py", "up", *address],
        }
        return [*special.get(role, ["manage.py", role]), *args]

    def start(
        self,
        role: str,
        *args: str,
        name: str | None = None,
        env: dict[str, str] | None = None,
        planted: tuple[str, int] | None = None,
    ) -> int:
        """Start a process of `role` (several of one role by `name`) and return its pid.

        Web and up are awaited, unless they are `planted` to crash.
        """
        name = name or role
        with (self.var / f"{name}.log").open("ab") as log:
            self.processes[name] = warm.start(
                self.argv(role, *args, planted=planted), {**self.env, **(env or {})}, log.fileno(), log.fileno()
            )
        if role in ("web", "up") and not planted:
            wait_for(lambda: self.answers(name), START_S, f"{name} answering at {self.url}")
        return self.processes[name].pid

    def answers(self, name: str) -> bool:
        """Say whether a web process answers; one that ended is a failure."""
        code = self.processes[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log(name)}"
        try:
            return self.session.get(f"{self.url}/healthz", timeout=2).status_code < 500
        except requests.RequestException:
            return False

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process we started."""
        self.processes[name].send_signal(number)

    def freeze(self, name: str) -> None:
        """Stop a process between two transactions (SIGSTOP); SIGCONT lets it go on.

        Within one it would keep its locks, and only the database could help the others.
        """
        self.signal(name, signal.SIGSTOP)
        while self._holds_locks(self.processes[name].pid):
            self.signal(name, signal.SIGCONT)
            time.sleep(POLL_S)
            self.signal(name, signal.SIGSTOP)

    def _holds_locks(self, pid: int) -> bool:
        """Say whether a frozen process is within a transaction; what it asked for last may still be at work."""
        if self.database_url.startswith("sqlite"):
            queue = WriteQueue(self.database_url.removeprefix("sqlite:///"))
            is_free = queue.enter(2)  # before every transaction, its turn
            queue.close()
            return not is_free
        ports = [found.laddr.port for found in psutil.Process(pid).net_connections("tcp")]
        within = "SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY(?) AND state <> 'idle'"
        try:
            wait_for(lambda: self.sql(within, ports) == [(0,)], 2)
        except Timeout:
            return True
        return False

    def kill(self, name: str) -> None:
        """End a process as a crash would (SIGKILL)."""
        self.signal(name, signal.SIGKILL)
        self.processes.pop(name).wait()

    def terminate(self, name: str, timeout: float = STOP_S) -> int:
        """Ask a process to stop and return its exit code."""
        self.signal(name, signal.SIGTERM)
        return self.processes.pop(name).wait(timeout)

    def log(self, name: str, lines: int = 60) -> str:
        """Return the last lines a process wrote."""
        path = self.var / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def close(self) -> None:
        """End what still runs: kindly those that supervise others, the rest at once."""
        for name in list(self.processes):
            if name == "up" and self.processes[name].poll() is None:
                self.terminate(name)
            else:
                self.kill(name)
        self.session.close()

    # -- ways in

    def command(self, *args: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run `controlplane ARGS` to its end."""
        return run(list(args), self.env, timeout)

    def key(self, role: str = "admin", system: str = "", team: str = "") -> str:
        """Return an API key of `role`, made by the command the first time it is asked for."""
        wanted = {"--role": role, "--system": system, "--team": team}
        options = tuple((name, value) for name, value in wanted.items() if value)
        if options not in self._keys:
            flat = [word for option in options for word in option]
            done = self.command("create_api_key", f"test-{role}-{uuid4().hex[:6]}", *flat, "--json")
            assert done.returncode == 0, done.stderr
            self._keys[options] = orjson.loads(done.stdout)["key"]
        return self._keys[options]

    def api(self, method: str, path: str, *, key: str | None = None, **more: Any) -> requests.Response:
        """Call the REST API; a path without a leading slash is below /api/v1/. The key defaults to an admin's."""
        url = f"{self.url}{path}" if path.startswith("/") else f"{self.url}/api/v1/{path}"
        headers = {"Authorization": f"Bearer {key or self.key()}", **more.pop("headers", {})}
        return self.session.request(method, url, headers=headers, timeout=more.pop("timeout", 30), **more)

    def register(self, slug: str, url: str | None = None, **endpoint: Any) -> dict[str, Any]:
        """Register system `slug`, with an endpoint at `url` if given; returns both as the API shows them."""
        system = {"slug": slug, "name": slug.title(), **endpoint.pop("system_fields", {})}
        made = {"system": self._created("systems/", system)}
        if url is not None:
            parts = urlsplit(url)
            address = {"protocol": parts.scheme, "host": parts.hostname, "port": parts.port, "path": parts.path or "/"}
            made["endpoint"] = self._created("endpoints/", {"system": slug, **address, **endpoint})
        return made

    def _created(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.api("POST", path, json=body)
        assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
        return dict(answer.json())

    # -- looking inside

    def sql(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the stack's database; parameters are written `?` on either engine."""
        if self.database_url.startswith("sqlite"):
            connection = sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=20)
            try:
                with connection:
                    return connection.execute(query, params).fetchall()
            finally:
                connection.close()
        with psycopg.connect(self.database_url) as server:
            cursor = server.execute(query.replace("?", "%s"), params)
            return cursor.fetchall() if cursor.description else []

    def wait_for(self, predicate: Callable[[], Found], timeout: float = PATIENCE_S, what: str = "") -> Found:
        """Await `predicate`; a process that died meanwhile is the better news."""
        try:
            return wait_for(predicate, timeout, what)
        except Timeout as error:
            logs = "\n".join(f"--- {name}\n{self.log(name, 25)}" for name in self.processes)
            raise Timeout(f"{error}\n{logs}") from None
