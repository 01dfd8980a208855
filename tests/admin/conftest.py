"""People of every role and two teams, and a small installation in every state."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from endpoints.models import Membership
from tests.admin import demo

MARKUP = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


@pytest.fixture
def world(db: None) -> dict[str, Any]:
    """A hundred messages between seven systems, delivered, waiting and dead."""
    return demo.build(timezone.now(), messages=100)


@pytest.fixture
def sign_in(db: None) -> Callable[..., Client]:
    """Return a client signed in with a role, in the named teams; "superuser" is in none and sees all."""

    def signed_in(role: str, *teams: str) -> Client:
        user = User.objects.create_user(
            f"{role}-{User.objects.count()}", is_staff=True, is_superuser=role == "superuser"
        )
        user.groups.set([Group.objects.get_or_create(name=team)[0] for team in teams])
        if role != "superuser":
            Membership.objects.create(user=user, role=role)
        client = Client()
        client.force_login(user)
        return client

    return signed_in
