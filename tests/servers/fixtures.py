"""The servers as pytest fixtures; a conftest takes them with `from tests.servers.fixtures import *`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.absence import not_installed
from tests.servers.certificates import CertificateAuthority
from tests.servers.http import HttpReceiver
from tests.servers.nginx import Nginx
from tests.servers.oauth2 import TokenServer

__all__ = ["authority", "http_receiver", "nginx", "tls_receiver", "token_server"]


@pytest.fixture
def http_receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
def tls_receiver(authority: CertificateAuthority, tmp_path: Path) -> Iterator[HttpReceiver]:
    """A receiver over TLS for localhost and 127.0.0.1, trusted by whoever trusts `authority`."""
    with HttpReceiver(tls=authority.server_context(tmp_path, "localhost", "127.0.0.1")) as receiver:
        yield receiver


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    if not Nginx.installed():
        not_installed("nginx", "nginx")
    with Nginx(tmp_path / "nginx") as server:
        yield server
