"""Ten million deliveries, and a million dead letters: every page stays quick, and pruning disturbs no intake.

Figures are printed.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import pytest
import requests

from tests.acceptance.ledgers import let_go
from tests.stack import ROOT, Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * 3600)]
DELIVERIES, DAYS = 10_000_000, 60
PRUNED_DAYS = 6  # a tenth of it
RATE = 100
API_P95_MS, ADMIN_P95_MS, SLOWER = 100.0, 400.0, 2.0
DEAD, CAUSES = 1_000_000, 20
WORKPLACE_API = (
    "dead-letters/",
    "dead-letters/?resolved=true",
    "dead-letters/?resolved=false",
    "dead-letters/?event_type=contract.signed",
    "dead-letters/groups/",
    "dead-letters/groups/?ordering=-count&q=step",
    "dead-letters/groups/{group}/",
    "find/?q=4711",
)
WORKPLACE = (
    "/admin/",
    "/admin/dead-letters/",
    "/admin/dead-letters/?ordering=-count",
    "/admin/dead-letters/?system=seed-003",
    "/admin/dead-letters/?error_class=timeout&q=step",
    "/admin/dead-letters/?q=nothing",
    "/admin/dead-letters/?resolved=true",
    "/admin/dead-letters/{group}/",
    "/admin/messaging/delivery/?state=dead",
    "/admin/messaging/delivery/?dead_group={group}",
    "/admin/messaging/delivery/?resolved=true",
    "/admin/jobs/",
    "/admin/jobs/new/?action=redrive&all=1",
    "/admin/jobs/new/?action=redrive&error_class=timeout",
    "/admin/jobs/new/?action=redrive&system=seed-002",
    "/admin/jobs/new/?action=resolve&state=dead",
    "/admin/find/?q=4711",
    "/admin/incidents/",
    "/admin/systems/seed-002/",
    "/admin/systems/seed-002/maintenance/",
    "/admin/systems/seed-002/retire/",
)
API_PAGES = (
    "deliveries/",
    "deliveries/?state=dead",
    "deliveries/?state=dead&system=seed-003",
    "deliveries/?state=pending",
    "deliveries/?system=seed-004",
    "deliveries/?error_class=timeout",
    "deliveries/?reason=poison",
    "deliveries/?event_type=contract.signed",
    "deliveries/?event_type=nothing&state=dead",
    "deliveries/?priority=emergency",
    "deliveries/?interface=orders",
    "deliveries/?search_key=order:4100500",
    "deliveries/?q=c77",
    "deliveries/?correlation_id=run-500",
    "deliveries/?ordering=-finished_at&state=dead",
    "deliveries/?ordering=finished_at",
    "deliveries/?ordering=due_at",
    "dead-letters/",
    "dead-letters/?event_type=contract.signed",
    "dead-letters/?resolved=true",
    "dead-letters/?resolved=false",
    "dead-letters/groups/",
    "dead-letters/groups/?ordering=-count&q=step",
    "messages/",
    "messages/?source_system=seed-003",
    "messages/?target_system=seed-003",
    "messages/?event_type=contract.signed",
    "messages/?search_key=customer:c77",
    "messages/?q=nothing",
    "attempts/",
    "attempts/?status_code=503",
    "attempts/?outcome=dead",
    "attempts/?system=nobody",
    "audit/?actor=nobody",
)
ADMIN_PAGES = (
    "/admin/",
    "/admin/systems/seed-003/",
    "/admin/messaging/message/",
    "/admin/messaging/delivery/",
    "/admin/messaging/delivery/?state=dead",
    "/admin/messaging/delivery/?q=c77",
    "/admin/messaging/delivery/?event_type=nothing",
    "/admin/messaging/message/?search_key=order:4100500",
    "/admin/dead-letters/",
    "/admin/dead-letters/?ordering=-count",
    "/admin/dead-letters/?system=seed-003&q=step",
    "/admin/dead-letters/?resolved=true",
)


def test_ten_million_deliveries(make_stack: Callable[..., Stack], capsys: pytest.CaptureFixture[str]) -> None:
    """Pages by their 95th percentile, then intake's 99th while a million rows go."""
    stack = make_stack(CONTROLPLANE_KEEP_METADATA_DAYS=str(DAYS - PRUNED_DAYS))
    started = time.monotonic()
    done = stack.command("seed_history", str(DELIVERIES), "--days", str(DAYS), "--dead", "100", timeout=3 * 3600)
    assert done.returncode == 0, done.stderr
    seeded_s = time.monotonic() - started
    stack.start("web")
    found = {"seeded per second": DELIVERIES / seeded_s, **page_times(stack), **prune_times(stack)}
    show(stack, found, capsys)
    assert found["API page p95 ms"] <= API_P95_MS
    assert found["admin page p95 ms"] <= ADMIN_P95_MS
    assert found["intake p99 ms while pruning"] <= SLOWER * found["intake p99 ms before"]


def test_a_million_dead_letters(make_stack: Callable[..., Stack], capsys: pytest.CaptureFixture[str]) -> None:
    """Every page of the workplace: what died, its groups, the previews of jobs, incidents, maintenance, retirement."""
    stack = make_stack()
    done = stack.command("seed_history", str(DEAD), "--dead", "1000", "--causes", str(CAUSES), timeout=3 * 3600)
    assert done.returncode == 0, done.stderr
    stack.start("web")
    session = signed_in(stack)
    dead = stack.sql("SELECT count(*) FROM messaging_delivery WHERE state = 'dead'")[0][0]
    found = {"dead letters": float(dead)}
    group = stack.api("GET", "dead-letters/groups/?ordering=-count").json()["results"][0]["id"]
    calls = {page: partial(stack.api, "GET", page.format(group=group)) for page in WORKPLACE_API} | {
        page: partial(session.get, stack.url + page.format(group=group), timeout=120) for page in WORKPLACE
    }
    for page, call in calls.items():
        call()
        found[page] = p(95, [timed(call)[0] for _ in range(20)])
    show(stack, found, capsys)
    assert found.pop("dead letters") >= DEAD * 0.99
    assert max(found.values()) <= ADMIN_P95_MS


def show(stack: Stack, found: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n", stack.database_url.partition(":")[0])
        for name, value in found.items():
            print(f"  {name:<56} {value:,.1f}")


def page_times(stack: Stack) -> dict[str, float]:
    """Return the 95th percentiles over all pages and the ones behind them, in milliseconds."""
    api: list[float] = []
    for page in API_PAGES * 3:
        took_ms, answer = timed(lambda page=page: stack.api("GET", page))
        api.append(took_ms)
        following = answer.json()["next"]
        if following:
            took_ms, _ = timed(lambda url=following: stack.api("GET", url[url.index("/api/") :]))
            api.append(took_ms)
    newest = stack.sql("SELECT max(position) FROM messaging_message")[0][0]
    session = signed_in(stack)
    pages = (*ADMIN_PAGES, *(f"/admin/messaging/message/{newest * part // 10}/change/" for part in (1, 5, 9)))
    admin = [timed(lambda page=page: session.get(stack.url + page, timeout=120))[0] for page in pages * 4]
    return {"API page p95 ms": p(95, api), "admin page p95 ms": p(95, admin), "API page p50 ms": p(50, api)}


def timed(call: Callable[[], requests.Response]) -> tuple[float, requests.Response]:
    started = time.perf_counter()
    answer = call()
    took_ms = (time.perf_counter() - started) * 1000
    assert answer.status_code == 200, answer.text[:300]
    return took_ms, answer


def signed_in(stack: Stack) -> requests.Session:
    """Return a browser's session of an admin."""
    code = (
        "from django.contrib.auth.models import User;"
        "User.objects.create_superuser('visitor', password='a-long-enough-word')"
    )
    done = stack.command("shell", "-c", code)
    assert done.returncode == 0, done.stderr
    session = requests.Session()
    session.trust_env = False
    page = f"{stack.url}/admin/login/"
    session.get(page, timeout=30)
    form = {
        "username": "visitor",
        "password": "a-long-enough-word",
        "csrfmiddlewaretoken": session.cookies["csrftoken"],
    }
    answer = session.post(page, data=form, headers={"Referer": page}, timeout=30)
    assert answer.url.rstrip("/").endswith("/admin"), answer.url
    return session


def prune_times(stack: Stack) -> dict[str, float]:
    """Return intake's 99th percentiles at a steady rate, before and while the oldest go, and what went."""
    stack.register("intake-source")
    stack.register("intake-target", "http://127.0.0.1:9/in")
    send_for(stack, lambda elapsed_s: elapsed_s < 3)
    before = send_for(stack, lambda elapsed_s: elapsed_s < 30)
    rows = stack.sql("SELECT count(*) FROM messaging_delivery")[0][0]
    started = time.monotonic()
    pruning = subprocess.Popen(
        [sys.executable, "manage.py", "prune"], cwd=ROOT, env=stack.env, stdout=subprocess.DEVNULL
    )
    during = send_for(stack, lambda elapsed_s: pruning.poll() is None)
    took_s = time.monotonic() - started
    assert pruning.returncode == 0
    sent = len(during)
    gone = rows + sent - stack.sql("SELECT count(*) FROM messaging_delivery")[0][0]
    return {
        "intake p50 ms before": p(50, before),
        "intake p50 ms while pruning": p(50, during),
        "intake p99 ms before": p(99, before),
        "intake p99 ms while pruning": p(99, during),
        "deliveries pruned": gone,
        "pruned per second": gone / took_s,
    }


def send_for(stack: Stack, goes_on: Callable[[float], bool]) -> list[float]:
    """Send at `RATE` a second while `goes_on(seconds)`; return how long each acknowledgement took, in milliseconds.

    The clock of each starts when it was due, so that one slow answer does not hide behind the next.
    """
    took: list[float] = []
    url, headers = f"{stack.url}/api/v1/messages/", {"X-API-Key": stack.key()}
    body: dict[str, Any] = {"source_system": "intake-source", "target_system": "intake-target", "payload": {"n": 1}}

    async def send(session: aiohttp.ClientSession, due: float) -> None:
        async with session.post(url, json=body) as answer:
            assert answer.status == 202, await answer.text()
        took.append((time.perf_counter() - due) * 1000)

    async def run() -> None:
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=64)) as session:
            started, number, sending = time.perf_counter(), 0, set[asyncio.Task[None]]()
            while goes_on(time.perf_counter() - started):
                due = started + number / RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                number += 1
                task = asyncio.create_task(send(session, due))
                sending.add(task)
                task.add_done_callback(sending.discard)
            await asyncio.gather(*sending)
        await let_go()

    asyncio.run(run())
    return took


def p(percent: int, values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
