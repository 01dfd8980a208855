"""A PostgreSQL server of a test's own, which it may stop, start and starve of disk."""

import shutil
import tempfile
from pathlib import Path
from typing import Self

import psutil

from deploy import services
from tests.servers.ports import free_port

# A file may grow to this while the disk is "full". Segments of the log are as large, so
# the log goes on and only tables cannot grow: a full log would take the server down.
FULL_AT = 2**20


class Postgres:
    """A fresh cluster on a port of its own; use as a context manager. `url` names its first database."""

    def __enter__(self) -> Self:
        programs = services.postgres_programs()
        assert programs is not None, "no PostgreSQL programs; run `make services`"
        self._programs, self._folder = programs, Path(tempfile.mkdtemp(prefix="controlplane-postgres-"))
        if user := services.owner():
            shutil.chown(self._folder, user)
        options = ["-D", str(self.data), "-U", "controlplane", "-A", "trust", "-E", "UTF8", "--locale=C"]
        self._run("initdb", *options, "--no-sync", f"--wal-segsize={FULL_AT // 2**20}")
        self.port = free_port()
        self.url = f"postgresql://controlplane@127.0.0.1:{self.port}/postgres"
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.limit(None)
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """Return where its files are."""
        return self._folder / "data"

    def _run(self, program: str, *words: str) -> None:
        done = services.as_owner([str(self._programs / program), *words])
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Start and wait until it answers."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c shared_buffers=16MB"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self.data), "-l", log, "-w", "-t", "60", "-o", settings, "start")

    def crash(self) -> None:
        """Stop as a power failure would: connections break, and the log is replayed at the next start."""
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop")

    def limit(self, size: int | None) -> None:
        """Let no file of the server grow beyond `size` bytes; None lifts that. As the server's user, who alone may."""
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        limits = f"--fsize={size or 'unlimited'}:unlimited"
        for process in (postmaster, *postmaster.children(recursive=True)):
            done = services.as_owner(["prlimit", "--pid", str(process.pid), limits])
            assert done.returncode == 0 or not process.is_running(), done.stderr
