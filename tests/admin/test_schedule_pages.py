"""The pages of schedules: when suites run by themselves, and the button that holds one."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from endpoints.access.principal import COMMAND
from testing.models import Schedule
from testing.services import suites

TEXT = """\
suite: nightly
schedule: {cron: "30 4 * * *", timezone: Europe/Amsterdam}
triggers: [version_changed]
cases: [{case: one, steps: [{wait: 1ms}]}]
"""
LIST = "/admin/testing/schedule/"


@pytest.fixture
def schedule(db: None) -> Schedule:
    return Schedule.objects.get(suite=suites.create(TEXT, by=COMMAND))


def test_the_list_says_when_and_the_page_holds_it(schedule: Schedule, sign_in: Callable[..., Client]) -> None:
    """An operator sees the next ticks, pauses with a reason, and resumes; the button says what comes."""
    client = sign_in("operator")
    listed = client.get(LIST).content.decode()
    assert "at 04:30, every day" in listed
    assert "version changed" in listed
    page = f"{LIST}{schedule.pk}/change/"
    assert client.get(page).content.decode().count("<time") >= 5
    client.post(f"{LIST}{schedule.pk}/pause/", {"reason": "too loud"})
    held = client.get(page).content.decode()
    assert "too loud" in held
    assert "Resume" in held
    schedule.refresh_from_db()
    assert schedule.next_at is None
    client.post(f"{LIST}{schedule.pk}/resume/")
    schedule.refresh_from_db()
    assert schedule.next_at is not None


def test_a_viewer_reads_and_holds_nothing(schedule: Schedule, sign_in: Callable[..., Client]) -> None:
    """Who may not pause is shown no button and refused; nobody adds or deletes a schedule beside its document."""
    client = sign_in("viewer")
    page: Any = client.get(f"{LIST}{schedule.pk}/change/")
    assert page.status_code == 200
    assert "/pause/" not in page.content.decode()
    assert client.post(f"{LIST}{schedule.pk}/pause/", {}).status_code == 403
    assert sign_in("admin").get(f"{LIST}add/").status_code == 403


def test_without_a_schedule_the_page_says_how_to_have_one(db: None, sign_in: Callable[..., Client]) -> None:
    """No list that was counted in vain, and no way to show all of nothing."""
    shown = sign_in("operator").get(LIST).content.decode()
    assert "No suite runs by itself yet" in shown
    assert "Show all" not in shown
