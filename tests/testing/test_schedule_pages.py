"""The pages of schedules: they say in words when a suite runs, and where a schedule comes from."""

from collections.abc import Callable

import pytest
from django.test import Client

from testing.document.cron_words import in_words
from tests.admin.conftest import sign_in
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver

__all__ = ["sign_in"]

TEXT = """\
suite: orders-watch
systems: {api: orders}
schedule: {cron: "30 6 * * 1-5", timezone: Europe/Amsterdam, overlap: queue}
cases:
  - case: one
    steps: [{http: {system: api}, assert: [{status: {eq: 200}}]}]
"""


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("*/5 * * * *", "every 5 minutes, every day"),
        ("30 6 * * 1-5", "at 06:30, Monday to Friday"),
        ("0 0 * * sun,3", "at 00:00, Sunday, Wednesday"),
        ("0 * * * *", "every hour, every day"),
        ("5 * * * 7", "every hour at 5 past, Sunday"),
        ("@daily", "at 00:00, every day"),
        ("* * * * *", "every minute, every day"),
        ("*/7 * * * *", ""),
        ("0 3 1 * *", ""),
        ("0 3 * * 1-5/2", ""),
        ("0 3,15 * * *", ""),
    ],
)
def test_a_cron_reads_as_a_sentence_or_not_at_all(cron: str, said: str) -> None:
    assert in_words(cron) == said


def test_a_schedule_explains_itself(admin: Caller, orders: HttpReceiver, sign_in: Callable[..., Client]) -> None:
    """Without one the list says where they come from; one says when it runs, and what becomes of odd ticks."""
    client = sign_in("operator")

    def page(path: str) -> str:
        return client.get(path).content.decode()

    assert "No suite runs by itself yet" in page("/admin/testing/schedule/")
    assert admin("POST", "suites/", {"text": TEXT}).status == 201
    listed = page("/admin/testing/schedule/")
    assert "at 06:30, Monday to Friday" in listed
    assert "No suite runs by itself yet" not in listed
    key = admin("GET", "schedules/").json["results"][0]["id"]
    shown = page(f"/admin/testing/schedule/{key}/change/")
    for said in (
        'href="/admin/suites/orders-watch/"',
        "run waits for it",
        "one run for all at which no worker was there",
    ):
        assert said in shown.replace("&#x27;", "'")
    assert "at 06:30, Monday to Friday" in page("/admin/suites/orders-watch/")
