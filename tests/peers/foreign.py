"""Peers that this project did not write, each a process: Node.js, socat, openssl.

A test whose program is missing is skipped by name; with CI set that is a failure.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

import pytest

HERE = Path(__file__).resolve().parent
PROGRAMS = {"node": "nodejs", "socat": "socat", "openssl": "openssl"}


def program(name: str) -> str:
    """Return the path of a program, or skip by name; with CI set a missing one is a failure."""
    if found := shutil.which(name):
        return found
    reason = f"{name}: not installed; run `make services`, or install {PROGRAMS.get(name, name)}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Node:
    """A script of this folder, run by Node.js on `port`; it writes what it gets into a ledger before it answers.

    `hold`: so many messages it answers nothing to.
    """

    def __init__(self, script: str, port: int, ledger: Path, framing: str = "-", *tls: str) -> None:
        self.port, self._ledger = port, ledger
        self._script, self._framing, self._tls = script, framing, tls
        self._node = program("node")

    def start(self, hold: int = 0) -> Self:
        words = [str(self.port), self._framing, str(self._ledger), str(hold), *self._tls]
        self._process = subprocess.Popen([self._node, str(HERE / self._script), *words], stdout=subprocess.PIPE)
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
