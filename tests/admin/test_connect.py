"""The Connect tab speaks of the protocols that the system has, and of keys that fit."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from endpoints.models import Endpoint, System
from endpoints.transports import protocols
from messaging.services.connecting import WAYS, receiving
from tests.stack import ROOT

Signed = Callable[..., Client]


@pytest.mark.parametrize(
    ("protocol", "told", "not_told"),
    [
        ("pull", "/api/v1/systems/crm/inbox/?interface=main", "SIGNING_SECRET"),
        ("gateway", "/ws/v1/gateway/", "SIGNING_SECRET"),
        ("tcp", "docs/protocols/tcp.md", "SIGNING_SECRET"),
        ("https", "SIGNING_SECRET", "/inbox/?interface"),
    ],
)
def test_a_system_is_told_of_its_own_protocol(
    protocol: str, told: str, not_told: str, world: Any, sign_in: Signed
) -> None:
    Endpoint.objects.filter(system__slug="crm").update(protocol=protocol)
    page = sign_in("viewer", "Sales").get("/admin/systems/crm/").content.decode()

    assert told in page
    assert not_told not in page
    assert "anything but 2xx" not in page


def test_without_an_endpoint_it_may_choose(world: Any, sign_in: Signed) -> None:
    page = sign_in("viewer", "Logistics").get("/admin/systems/scanner-7/").content.decode()

    for told in ("SIGNING_SECRET", "/api/v1/systems/scanner-7/inbox/", "/ws/v1/gateway/"):
        assert told in page


def test_every_protocol_has_its_row_and_each_row_its_guide() -> None:
    """What packages add is told, too: in their own words."""
    assert set(WAYS) <= set(protocols())
    for protocol in protocols():
        [reception] = receiving(System(slug="erp"), [Endpoint(protocol=protocol, interface="main")])
        assert (ROOT / reception.guide).exists(), protocol
