"""Peers that this project did not write, each a process: Node.js, socat, openssl.

A test whose program or module is missing is skipped by name; with CI set that is a failure.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

from deploy import services
from tests.servers.absence import not_installed
from tests.servers.certificates import CertificateAuthority

HERE = Path(__file__).resolve().parent
ENVIRONMENT = services.node_environment()
_has_module = cache(services.has_node_module)


def program(name: str) -> str:
    """Return the path of a program, or skip by name."""
    return shutil.which(name) or not_installed(name, services.PACKAGES.get(name, name))


def need(module: str) -> None:
    """Skip by name without that module of Node.js."""
    program("node")
    if not _has_module(module):
        not_installed(f"Node.js module `{module}`", services.NODE_PACKAGES.get(module, f"node-{module}"))


def script(name: str, *words: str) -> list[str]:
    """Return the command line of a script of this folder; run it in ENVIRONMENT."""
    return [program("node"), str(HERE / name), *words]


def pem(authority: CertificateAuthority, directory: Path, name: str) -> str:
    """Return the path of a file with a key and its certificate for `name`, as Node.js reads them."""
    pair = authority.issue(name)
    path = directory / f"{name}.pem"
    path.write_text(pair.key + pair.cert)
    return str(path)


@contextmanager
def node(name: str, module: str, *words: str, port: int = 0) -> Iterator[int]:
    """Run a script that serves until left; yields the port it listens at."""
    need(module)
    command = script(name, str(port), *words)
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening "), f"{name} did not start"
            yield int(line.split()[1])
        finally:
            process.kill()


class Node:
    """A script of this folder, run by Node.js on `port`; it writes what it gets into a ledger before it answers.

    `hold`: so many messages it answers nothing to.
    """

    def __init__(self, name: str, port: int, ledger: Path, framing: str = "-", *tls: str) -> None:
        self.port, self._ledger = port, ledger
        self._name, self._framing, self._tls = name, framing, tls
        program("node")

    def start(self, hold: int = 0) -> Self:
        words = [str(self.port), self._framing, str(self._ledger), str(hold), *self._tls]
        self._process = subprocess.Popen(script(self._name, *words), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n", "the peer did not start"
        return self

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._process.kill()
        self._process.communicate(timeout=30)

    def received(self) -> list[bytes]:
        """Return what it got, in order."""
        lines = self._ledger.read_text().split("\n")[:-1] if self._ledger.exists() else []
        return [bytes.fromhex(line) for line in lines]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.kill()
