"""What accepting reads of the registry."""

import pytest

from messaging.intake.directory import load
from tests.messaging.factories import make_endpoint, make_system

pytestmark = pytest.mark.django_db


def test_a_protocol_that_nobody_speaks_any_more_harms_only_its_own_interface() -> None:
    """Its package was removed: who sends to the system, or a batch that names it, is not refused for that."""
    crm = make_system("crm")
    make_endpoint(crm, protocol="gone", interface="old")
    make_endpoint(crm, interface="main")

    doors = load({"crm"})["crm"].interfaces

    assert {name: door.is_for_clients for name, door in doors.items()} == {"main": False, "old": False}
