"""Teams for tests over REST: they are made in the table, as the pages do it."""

from tests.stack import Stack


def make_team(stack: Stack, name: str) -> None:
    """Make a team called `name`."""
    stack.sql("INSERT INTO auth_group (name) VALUES (?)", name)
