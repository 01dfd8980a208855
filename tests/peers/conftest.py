"""Peers that this project did not write play against the same running stacks as the tests of acceptance."""

from tests.acceptance.conftest import shared_stack
from tests.listening.conftest import ways
from tests.servers.fixtures import authority

__all__ = ["authority", "shared_stack", "ways"]
