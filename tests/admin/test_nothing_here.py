"""What people read where there is no page, and that programs still get their problem."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

Signed = Callable[..., Client]


@pytest.mark.parametrize("path", ["/admin/no-such-page/", "/admin/systems/no-such-system/"])
def test_who_is_signed_in_is_led_back(path: str, world: Any, sign_in: Signed) -> None:
    """The menu is there, and the words lead to the dashboard and to the search."""
    answer = sign_in("viewer", "Commerce").get(path)
    page = answer.content.decode()

    assert answer.status_code == 404
    assert "Back to the dashboard" in page
    assert '/admin/messaging/delivery/"' in page
    assert 'href="/admin/find/"' in page


def test_a_stranger_is_led_to_the_login(db: None) -> None:
    answer = Client().get("/no-such-page/")
    page = answer.content.decode()

    assert answer.status_code == 404
    assert "Log in" in page
    assert "/admin/find/" not in page


@pytest.mark.parametrize("path", ["/api/v1/no-such-thing/", "/in/no-such-hook/", "/to/"])
def test_a_program_still_gets_a_problem(path: str, db: None) -> None:
    answer = Client().get(path)

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
