"""nginx as a receiver that is not ours: answers 204 to everything and logs one line per request."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.servers.ports import free_port

CONFIG = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  client_max_body_size 32m; keepalive_requests 1000000; keepalive_timeout 300s;
  log_format line '$http_webhook_id $http_x_message_id $http_x_attempt $content_length';
  access_log {log};
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return {status}; }} }}
}}
"""


class Nginx:
    """Run nginx below `directory`; `lines()` are the requests it got, `webhook-id message-id attempt length`."""

    def __init__(self, directory: Path, *, status: int = 204, log: bool = True) -> None:
        self.directory, self.port = directory, free_port()
        self._log = directory / "access.log"
        self._text = CONFIG.format(
            dir=directory, port=self.port, status=status, log=f"{self._log} line" if log else "off"
        )

    @staticmethod
    def installed() -> str | None:
        """Return nginx's path, or None where there is none."""
        return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[list[str]]:
        """Return the logged requests, split into their fields."""
        return [line.split() for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nginx.conf"
        config.write_text(self._text)
        self._process = subprocess.Popen(
            [self.installed() or "nginx", "-e", f"{self.directory}/error.log", "-c", str(config)],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise TimeoutError(f"nginx did not start: {(self.directory / 'error.log').read_text()}")

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(10)
