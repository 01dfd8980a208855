"""The harness itself: what every other test stands on."""

from collections.abc import Callable

from tests.stack import Stack


def test_a_fresh_database_is_migrated_and_empty(make_stack: Callable[..., Stack]) -> None:
    """Each test begins with every table and no row, on either engine."""
    stack = make_stack()

    assert stack.sql("SELECT count(*) FROM endpoints_system WHERE slug <> ?", "none") == [(0,)]
