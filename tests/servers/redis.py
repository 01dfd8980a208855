"""A Redis server of a test's own, with a password; Debian's redis-server."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import psutil

from tests.servers.ports import free_port

START_S = 20


class Redis:
    """A server on a port of its own, nothing kept on disk; use as a context manager."""

    password = "s3cret-of-redis"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def installed() -> bool:
        return shutil.which("redis-server") is not None

    def __enter__(self) -> Self:
        self.port = free_port()
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        words += ["--dir", str(self._folder), "--requirepass", self.password]
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        until = time.monotonic() + START_S
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
            assert time.monotonic() < until, "redis-server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        if psutil.pid_exists(self._process.pid):
            self._process.kill()
        self._process.communicate()
