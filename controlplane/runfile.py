"""Who supervises this installation: one lock and one small file in `var/run`, for `up`, `stop` and `status`."""

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, TextIO


class AlreadyRunning(Exception):
    """Another supervisor holds this installation."""


class Run:
    """The lock says whether a supervisor lives (the kernel frees it with its holder); the file says which."""

    def __init__(self, var: Path) -> None:
        self.folder = var / "run"
        self.path = self.folder / "supervisor.json"
        self._lock: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock for as long as this process lives; raises AlreadyRunning."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "supervisor.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunning(self._who()) from None
        self._lock = lock

    def release(self) -> None:
        """Give the lock back and remove the file."""
        self.path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def is_held(self) -> bool:
        """Say whether a supervisor lives."""
        try:
            self.acquire()
        except AlreadyRunning:
            return True
        assert self._lock is not None
        self._lock.close()
        self._lock = None
        return False

    def read(self) -> dict[str, Any]:
        """Return what the supervisor wrote last, or nothing."""
        try:
            return dict(json.loads(self.path.read_text()))
        except (FileNotFoundError, ValueError):
            return {}

    def write(self, **facts: Any) -> None:
        """Replace the file at once, so that nobody reads half of it."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({"pid": os.getpid(), "written_at": time.time(), **facts}, indent=1))
        draft.replace(self.path)

    def _who(self) -> str:
        pid = self.read().get("pid", "unknown")
        return f"Already running here (pid {pid}). Stop it with `controlplane stop`."


def can_listen(host: str, port: int) -> str | None:
    """Return why nobody can listen at this address, or None: said before anything starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return f"Cannot listen on {host}:{port}: {error.strerror}. {_other(error)}"
    return None


def _other(error: OSError) -> str:
    """Return what of the address to choose anew."""
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return "Choose another with --port (or PORT=)."
    return "That address is not this machine's; choose one with --host (or HOST=)."


def accepts(host: str, port: int) -> bool:
    """Say whether somebody takes connections at this address, or at loopback when it means every address."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    try:
        with socket.create_connection((reachable, port), timeout=0.5):
            return True
    except OSError:
        return False
