"""A hundred thousand runs, a million cases, a run of twenty thousand: every page answers soon. Figures are printed."""

import os
import statistics
import time
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from tests.admin.conftest import sign_in
from tests.testing import size

__all__ = ["sign_in"]

RUNS = int(os.environ.get("HISTORY_RUNS", "100000"))
MOST_MS = float(os.environ.get("HISTORY_MS", "400"))
TIMES = 5
pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_every_page_is_quick_however_long_the_history(db: None, sign_in: Callable[..., Client]) -> None:
    """Whatever is asked for, a page reads a bounded number of rows along an index; for one of all teams and of one."""
    seeded = size.seed(timezone.now(), RUNS)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    wide, last = seeded["failed"].pk, seeded["last"].pk
    failed = f"/admin/runs/?verdict=failed&suite={seeded['suites'][3].slug}"
    paths = [
        *(
            "/admin/",
            "/admin/runs/",
            "/admin/suite-health/",
            "/admin/runs/?verdict=cancelled",
            "/admin/runs/?flaky=true",
        ),
        *("/admin/runs/?state=running", "/admin/runs/?system=system-4", "/admin/runs/?system=nobody", failed),
        *(f"/admin/runs/{wide}/", f"/admin/runs/{wide}/panel/", f"/admin/runs/{wide}/?verdict=passed&after=15000"),
        *(f"/admin/runs/{wide}/cases/10/", f"/admin/runs/{last}/", f"/admin/runs/compare/?after={wide}"),
        *("/admin/runs/trend/?suite=suite-00", "/admin/runs/trend/?suite=suite-03&case=case-3"),
        *(f"/api/v1/runs/{wide}/failure/", f"/api/v1/runs/{wide}/cases/?verdict=failed", "/api/v1/history/flaky/"),
        *("/api/v1/history/slowest/", "/api/v1/history/uncovered/", f"/api/v1/history/compare/?after={wide}"),
    ]
    slow = {}
    for client in (sign_in("superuser"), sign_in("operator", "north")):
        for path in paths:
            took_ms = [_ask(client, path) for _ in range(TIMES)]
            print(f"{statistics.median(took_ms):6.0f} ms {path}")
            if statistics.median(took_ms) > MOST_MS:
                slow[path] = took_ms
    assert not slow


def _ask(client: Client, path: str) -> float:
    started = time.perf_counter()
    assert client.get(path).status_code in (200, 404), path  # the last run may be another team's
    return (time.perf_counter() - started) * 1000
