"""The conformance suite over every row of the table; `endpoints.transports.conformance` says what it asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoints.transports import TRANSPORTS, transport_class
from endpoints.transports.base import Address
from endpoints.transports.conformance import TransportSuite
from tests.contract.peers import DOWN, PEERS, Peer
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority  # noqa: F401

# Its peers live in threads with loops of their own and are cut in the middle: what they leave open is not ours.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# The others are fetched, or asked and never sent to.
KINDS = {name: transport_class(name) for name in TRANSPORTS}
SENT = sorted(name for name, kind in KINDS.items() if kind.CLAIMED_BY != "receiver" and "deliver" in kind.USES)


class TestEveryTransport(TransportSuite):
    """Each protocol that a process of ours sends."""

    @pytest.fixture(params=SENT)
    def protocol(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def peer(self, protocol: str, authority: CertificateAuthority, tmp_path: Path) -> Iterator[Peer]:  # noqa: F811
        with PEERS[protocol](authority, tmp_path) as peer:
            yield peer

    @pytest.fixture
    def down(self, protocol: str) -> Address:
        return DOWN[protocol]()
