"""Jobs in real worker processes: killed, paused, paced; each delivery is done exactly once."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.stack import Stack

KILLS = 3
FEW, MANY = 5_000, 100_000


def seed(stack: Stack, count: int, state: str = "dead") -> None:
    """Make `count` deliveries of that state, of one message each."""
    stack.register("shop")
    stack.register("crm", "http://127.0.0.1:9/in")
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        if stack.database_url.startswith("sqlite")
        else "WITH n(i) AS (SELECT generate_series(1, ?::int))"
    )
    now = "'2026-01-02 03:04:05+00'" if "postgres" in stack.database_url else "'2026-01-02 03:04:05'"
    source, target = (
        stack.sql("SELECT id FROM endpoints_system WHERE slug = ?", slug)[0][0] for slug in ("shop", "crm")
    )
    lite = stack.database_url.startswith("sqlite")
    empty, ident = ("x'00'", "printf('%032x', i)") if lite else ("'\\x00'::bytea", "lpad(to_hex(i), 32, '0')::uuid")
    text = "'m-' || i" if lite else "'m-' || i::text"
    stack.sql(
        f"{numbers} INSERT INTO messaging_message (message_id, source_id, targets, message_type, event_type, priority,"
        " timestamp, payload, content_type, headers, correlation_id, reply_to, ordering_key, recipient, search_keys,"
        " size, fingerprint, unrouted, created_at)"
        f" SELECT {text}, {source}, '[\"crm\"]', 'event', '', 1, {now}, {empty}, 'application/json', '{{}}', '', '', "
        f"'', '', '{{}}', 1, {empty}, false, {now} FROM n",
        count,
    )
    first = stack.sql("SELECT min(position) FROM messaging_message")[0][0]
    stack.sql(
        f"{numbers} INSERT INTO messaging_delivery (id, message_id, source_id, system_id, interface, state, reason,"
        ' error_class, error, ack_level, priority, ordering_key, attempts, unspent, max_attempts, losses, "trigger",'
        f" due_at, created_at, finished_at, halting) SELECT {ident}, {first} - 1 + i, {source}, {target}, 'main',"
        f" '{state}', 'exhausted', 'timeout', '', '', 1, '', 10, 0, 10, 0, 'scheduled', {now}, {now}, {now}, false"
        " FROM n",
        count,
    )


def job(stack: Stack, **wish: Any) -> dict[str, Any]:
    answer = stack.api("POST", "jobs/", json=wish)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def look(stack: Stack, made: dict[str, Any]) -> dict[str, Any]:
    return dict(stack.api("GET", f"jobs/{made['id']}/").json())


def run_through_kills(make_stack: Callable[..., Stack], count: int) -> None:
    """Redrive `count` dead letters while the worker is killed; each waits anew exactly once."""
    stack = make_stack(CONTROLPLANE_LEASE_S="1")
    stack.start("web")
    seed(stack, count)
    # An update of a row that was redriven before would grant a second budget: each grants 10 more attempts.
    made = job(stack, action="redrive", filter={"state": "dead"})
    started = time.monotonic()
    for kill in range(KILLS):
        stack.start("worker")
        wanted = count * (kill + 1) // (KILLS + 2)
        stack.wait_for(lambda wanted=wanted: look(stack, made)["done"] >= wanted, 120, "progress")
        stack.kill("worker")
    stack.start("worker")
    stack.wait_for(lambda: look(stack, made)["state"] == "done", 300, "the end")
    print(f"{count} deliveries, {KILLS} kills: {time.monotonic() - started:.1f} s")

    found = look(stack, made)
    assert (found["done"], found["passed_over"], found["total"]) == (count, 0, count)
    rows = stack.sql('SELECT state, "trigger", max_attempts, count(*) FROM messaging_delivery GROUP BY 1, 2, 3')
    assert rows == [("pending", "redrive", 20, count)]


def test_killed_three_times_it_does_each_delivery_once(make_stack: Callable[..., Stack]) -> None:
    run_through_kills(make_stack, FEW)


@pytest.mark.long
def test_killed_three_times_it_does_each_of_many_once(make_stack: Callable[..., Stack]) -> None:
    run_through_kills(make_stack, MANY)


def test_two_operators_and_two_workers_do_each_once(make_stack: Callable[..., Stack]) -> None:
    """Both press the button at once, by filters of their own: together they do each delivery once."""
    stack = make_stack()
    stack.start("web")
    seed(stack, FEW)
    for name in ("one", "two"):
        stack.start("worker", "--no-beat", name=name)
    wishes = ({"state": "dead"}, {"error_class": "timeout"})
    with ThreadPoolExecutor(2) as operators:
        made = list(operators.map(lambda wish: job(stack, action="redrive", filter=wish), wishes))
    stack.wait_for(lambda: {look(stack, one)["state"] for one in made} == {"done"}, 120, "both")

    assert sum(look(stack, one)["done"] for one in made) == FEW
    rows = stack.sql('SELECT state, "trigger", max_attempts, count(*) FROM messaging_delivery GROUP BY 1, 2, 3')
    assert rows == [("pending", "redrive", 20, FEW)]


def test_a_rate_is_held_and_a_pause_comes_within_a_second(make_stack: Callable[..., Stack]) -> None:
    """It goes evenly, no faster than it may; paused, resumed and cancelled it obeys before the next second is over."""
    rate, tolerance_s = 40.0, 0.5
    stack = make_stack()
    stack.start("web")
    stack.start("worker", "--no-beat")
    seed(stack, FEW)
    made = job(stack, action="redrive", filter={"state": "dead"}, rate_per_s=rate)
    stack.wait_for(lambda: look(stack, made)["done"] > 0, what="the first batch")
    began, seen = time.monotonic(), 0
    while time.monotonic() < began + 4:
        before = time.monotonic()
        seen = look(stack, made)["done"]
        assert seen <= rate * (time.monotonic() - began + tolerance_s)
        assert seen >= rate * (before - began - 2)
    paused = stack.api("POST", f"jobs/{made['id']}/pause/").json()
    stack.api("PATCH", f"jobs/{made['id']}/", json={"rate_per_s": None})
    began = time.monotonic()
    while time.monotonic() < began + 1:
        assert look(stack, made)["done"] == paused["done"], "it went on"
    stack.api("POST", f"jobs/{made['id']}/resume/")
    stack.wait_for(lambda: look(stack, made)["done"] > paused["done"], 1.0, "going on within a second")
    ended = stack.api("POST", f"jobs/{made['id']}/cancel/")
    assert ended.status_code in (200, 409), ended.text


def test_the_command_waits_for_the_end(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    stack.start("web")
    stack.start("worker", "--no-beat")
    seed(stack, 500)
    done = stack.command("jobs", "create", "redrive", "--filter", "state=dead", "--wait", "--json")

    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["done"]) == ("done", 500)
