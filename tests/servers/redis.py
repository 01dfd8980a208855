"""A Redis server of a test's own, with a password; Debian's redis-server."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import psutil

from tests.servers.certificates import Pair
from tests.servers.ports import free_port

START_S = 20


class Redis:
    """A server on a port of its own, nothing kept on disk; use as a context manager."""

    password = "s3cret-of-redis"

    def __init__(self, folder: Path, certificate: Pair | None = None) -> None:
        """With a certificate it speaks TLS, and asks nobody else for one."""
        self._folder, self._certificate = folder, certificate

    @staticmethod
    def installed() -> bool:
        return shutil.which("redis-server") is not None

    def __enter__(self) -> Self:
        self.port = free_port()
        words = [*self._door(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        words += ["--dir", str(self._folder), "--requirepass", self.password]
        self._process = subprocess.Popen(["redis-server", *words], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        until = time.monotonic() + START_S
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                break
            assert time.monotonic() < until, "redis-server did not start"
        return self

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def _door(self) -> list[str]:
        if self._certificate is None:
            return ["--port", str(self.port)]
        paths = self._folder / "redis.crt", self._folder / "redis.key"
        for path, text in zip(paths, (self._certificate.cert, self._certificate.key), strict=True):
            path.write_text(text)
        files = ["--tls-cert-file", str(paths[0]), "--tls-key-file", str(paths[1])]
        return ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *files]

    def __exit__(self, *exc: object) -> None:
        if psutil.pid_exists(self._process.pid):
            self._process.kill()
        self._process.communicate()
