"""What a failed try holds is free as soon as it is told, and waits for no garbage collector.

The engine's processes let the collector look at old objects rarely, and a body has up to 25 MiB.
"""

import gc
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from endpoints.ids import new_id
from endpoints.transports import make_transport
from messaging.engine.attempt import make_attempt
from messaging.engine.doors import Door
from messaging.store import Claim
from tests.contract.peers import address
from tests.servers.ports import free_port

Peer = Callable[[], AbstractContextManager[int]]
SIZES = {"udp": 60_000}  # bytes
CONFIGS: dict[str, dict[str, Any]] = {"udp": {"reply": "any"}, "tcp": {"reply": "ack"}}


class Stub:
    """What of a door a try uses."""

    id, label, rules, schedule_s = None, "erp/main", (), (1.0,)

    def __init__(self, transport: Any) -> None:
        self.transport = transport


def claim(size: int) -> Claim:
    return Claim(
        *(new_id(), new_id(), 1, "main", 0, 0, 10, 0, "engine", None, None, 1, "m-1", "crm", "erp", "event", "", 2),
        *(datetime.now(UTC), bytes(size), "application/octet-stream", {}, "", "", "", ""),
    )


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


@contextmanager
def nobody() -> Iterator[int]:
    yield free_port()


@contextmanager
def silent() -> Iterator[int]:
    """Yield a port whose peer takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("peer", [nobody, silent])
@pytest.mark.parametrize("protocol", ["http", "https", "ws", "wss", "tcp", "tls", "udp"])
async def test_a_failed_try_keeps_nothing(protocol: str, peer: Peer) -> None:
    size = SIZES.get(protocol, 1_000_000)
    with peer() as port:
        transport = make_transport(
            address(protocol=protocol, port=port, timeout_s=0.2, config=CONFIGS.get(protocol, {}))
        )
        await transport.open()
        try:
            with no_collector():
                for _ in range(10):
                    finish, _, _ = await make_attempt(claim(size), cast(Door, Stub(transport)), timedelta())
                    assert finish.error_class
                kept = tracemalloc.get_traced_memory()[0]
        finally:
            await transport.aclose()
    assert kept < 2 * size + 200_000
