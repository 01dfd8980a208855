"""What one interface, however large its backlog or odd its endpoint, must not do to the others."""

from collections.abc import Callable
from uuid import uuid4

from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack

BACKLOG = 60_000


def fill(stack: Stack, link: Link, count: int, **columns: str) -> None:
    """Copy the one delivery of `link` until `count` wait, straight in the table: accepting them would take minutes."""
    is_sqlite = stack.database_url.startswith("sqlite")
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        if is_sqlite
        else f"WITH n AS (SELECT generate_series(1, {count}) AS i) "
    )
    names = [
        *("message_id", "source_id", "system_id", "interface", "state", "reason", "error_class", "error", "ack_level"),
        *("priority", "ordering_key", "attempts", "unspent", "max_attempts", "losses", "trigger", "due_at"),
        "created_at",
    ]
    fresh = "lower(hex(randomblob(16)))" if is_sqlite else "gen_random_uuid()"
    stack.sql(
        f"INSERT INTO messaging_delivery (id, {', '.join(names)}) {numbers}"
        f" SELECT {fresh}, {', '.join(columns.get(name, 'd.' + name) for name in names)}"
        " FROM n, messaging_delivery d JOIN endpoints_system s ON s.id = d.system_id WHERE s.slug = ?",
        link.target,
    )


def test_pausing_a_large_backlog_costs_no_lease_of_others(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Marking what waits takes turns with the renewal of leases: what is on its way elsewhere is sent once."""
    stack = make_stack(CONTROLPLANE_LEASE_S="3")
    stack.start("web")
    stack.start("deliver")
    large = Link(stack, "http://127.0.0.1:9", retry_schedule_s=[3600])
    large.until(large.send(), "pending", reason="retrying")
    fill(stack, large, BACKLOG)
    http_receiver.answer(Answer(200, delay_s=5.0))
    slow = Link(stack, http_receiver.url, timeout_s=10)
    waiting = slow.send()
    http_receiver.wait_for(1)

    large.act(f"systems/{large.target}/pause/")

    found = slow.ended(waiting)
    assert (found["state"], [attempt["outcome"] for attempt in found["attempt_list"]]) == ("delivered", ["delivered"])

    def marked() -> bool:
        return stack.sql("SELECT count(*) FROM messaging_delivery WHERE reason = 'paused'") == [(BACKLOG + 1,)]

    stack.wait_for(marked, 60, "all of the backlog saying paused")
    large.act(f"systems/{large.target}/resume/")
    stack.wait_for(lambda: not stack.sql("SELECT 1 FROM messaging_delivery WHERE reason = 'paused' LIMIT 1"), 60)


def test_a_change_makes_due_only_the_retries_it_can_help(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """A new password for one endpoint is no reason to hammer all the others that are down."""
    down = Link(shared_stack, "http://127.0.0.1:9", retry_schedule_s=[3600])
    waiting = down.send()
    down.until(waiting, "pending", reason="retrying")
    name = f"password-{uuid4().hex[:8]}"
    body = {"name": name, "kind": "bearer", "data": {"token": "first-token"}}
    assert shared_stack.api("POST", "credentials/", json=body).status_code == 201
    http_receiver.answer(401, 200)
    own = Link(shared_stack, http_receiver.url, credential=name, retry_schedule_s=[3600])
    helped = own.send()
    own.until(helped, "pending", reason="retrying")

    changed = shared_stack.api("PATCH", f"credentials/{name}/", json={"data": {"token": "second-token"}})
    if changed.status_code == 404:
        ident = shared_stack.api("GET", f"credentials/?name={name}").json()["results"][0]["id"]
        changed = shared_stack.api("PATCH", f"credentials/{ident}/", json={"data": {"token": "second-token"}})

    assert changed.status_code == 200, changed.text
    assert own.ended(helped)["state"] == "delivered"
    assert down.delivery(waiting)["attempts"] == 1


def test_a_suspect_that_cannot_be_sent_lets_the_next_have_its_turn(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """One whose endpoint cannot be used (its secret does not open) holds up no other that lost its worker."""
    stack = make_stack()
    stack.start("web")
    name = f"gone-{uuid4().hex[:8]}"
    body = {"name": name, "kind": "hmac", "data": {"secret": "a-secret"}}
    assert stack.api("POST", "credentials/", json=body).status_code == 201
    unusable = Link(stack, http_receiver.url, config={"signing_credential": name})
    usable = Link(stack, http_receiver.url)
    unusable.send()
    healthy = usable.send()
    stack.sql("UPDATE messaging_delivery SET losses = 1")
    stack.sql("UPDATE endpoints_credential SET name = 'renamed' WHERE name = ?", name)

    stack.start("deliver")

    assert usable.ended(healthy)["state"] == "delivered"


def test_what_ran_out_of_time_in_numbers_has_ended_soon(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Thousands that expire at once are not ended a few hundred a second while others wait behind them."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    link.send(deliver_at="2999-01-01T00:00:00Z")
    fill(stack, link, 9_000)
    stack.sql("UPDATE messaging_delivery SET expires_at = created_at")

    stack.start("deliver")

    expired = "SELECT count(*) FROM messaging_delivery WHERE state = 'expired'"
    stack.wait_for(lambda: stack.sql(expired)[0][0] > 0, what="the first one expired")
    stack.wait_for(lambda: stack.sql(expired) == [(9_001,)], 12, "all of them expired")  # 500 a second would take 17


def test_a_new_replica_takes_its_share_and_no_more(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """It makes up for nothing that the older one sent before it was there."""
    link = Link(shared_stack, f"{http_receiver.url}/old")
    for _ in range(10):
        link.ended(link.send())
    port = int(http_receiver.url.rpartition(":")[2])
    address = {"protocol": "http", "host": "127.0.0.1", "port": port, "path": "/new"}
    made = shared_stack.api("POST", "endpoints/", json={"system": link.target, "name": "second", **address})
    assert made.status_code == 201, made.text

    def is_used() -> bool:
        link.ended(link.send())
        return any(request.path == "/new" for request in http_receiver.received)

    shared_stack.wait_for(is_used, what="the engine following the registry")
    http_receiver.clear()

    for _ in range(6):
        link.ended(link.send())

    # Reading the registry anew, which happens beside this, may give the first of them one turn more.
    assert len(http_receiver.received) == 6
    assert {request.path for request in http_receiver.received[:2]} == {"/new", "/old"}
    assert sum(request.path == "/new" for request in http_receiver.received) in (2, 3)


def test_changing_an_endpoint_under_load_costs_no_attempt(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """What is sent while its settings change goes over the connections of before, or over those of after."""
    rounds, each = 20, 100
    link = Link(shared_stack, http_receiver.url, max_attempts=1, max_in_flight=1)
    for round in range(rounds):
        batch = [link.message() for _ in range(each)]
        assert shared_stack.api("POST", "messages/", json=batch).json()["accepted"] == each
        changed = shared_stack.api("PATCH", f"endpoints/{link.endpoint}/", json={"timeout_s": 10 + round})
        assert changed.status_code == 200, changed.text
    books = shared_stack.wait_for(lambda: settled(link), what="all of them ended")

    assert books == {"delivered": rounds * each}


def settled(link: Link) -> dict[str, int] | None:
    """Return how many deliveries of the link ended how, None while some wait."""
    rows = link.stack.sql(
        "SELECT d.state, count(*) FROM messaging_delivery d JOIN endpoints_system s ON s.id = d.system_id"
        " WHERE s.slug = ? GROUP BY d.state",
        link.target,
    )
    found = dict(rows)
    return None if found.keys() & {"pending", "sending"} else found
