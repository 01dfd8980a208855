"""A server with a door for each transport, registered as one system with an interface for each."""

from typing import Any, Protocol

from tests.endpoints.conftest import Caller


class Doors(Protocol):
    port: int
    tcp_port: int
    udp_port: int


def register_doors(admin: Caller, slug: str, server: Doors) -> None:
    """Register `slug` (HTTP), `slug/ws`, `slug/tcp` and `slug/udp`."""
    assert admin("POST", "systems/", {"slug": slug, "name": slug}).status == 201
    doors: tuple[dict[str, Any], ...] = (
        {"protocol": "http", "port": server.port},
        {"protocol": "ws", "port": server.port, "path": "/ws", "interface": "ws"},
        {"protocol": "tcp", "port": server.tcp_port, "interface": "tcp", "config": {"framing": "line"}},
        {"protocol": "udp", "port": server.udp_port, "interface": "udp"},
    )
    for door in doors:
        made = admin("POST", "endpoints/", {"system": slug, "host": "127.0.0.1", **door})
        assert made.status == 201, made.body
