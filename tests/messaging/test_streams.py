"""Event streams at the counter of a connection: order, cursors, credit, and who sees what."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from channels.db import database_sync_to_async
from django.db import transaction

from endpoints.access.principal import Principal
from endpoints.errors import Malformed, NotFound
from endpoints.models import AuditEntry
from messaging.gateway import behind
from messaging.gateway import tail as tails
from messaging.gateway.cursors import cursor_of
from messaging.gateway.streams import MOST, Tail
from messaging.models import Message, RetentionMark
from messaging.serializers import MessageDetailSerializer, MessageSerializer
from messaging.services import lookup
from tests.messaging.factories import make_delivery, make_message, make_system, make_team
from tests.messaging.streaming import OPERATOR, eventually, opened_tail, reading

pytestmark = pytest.mark.django_db(transaction=True)
VIEWER = Principal(label="key:viewer", role="viewer")


@pytest.fixture
async def tail() -> AsyncIterator[Tail]:
    async with opened_tail() as tail:
        yield tail


@database_sync_to_async
def made(count: int = 1, **fields: Any) -> list[str]:
    """Return the ids of `count` new messages, in the order of commit."""
    return [make_message(**fields).message_id for _ in range(count)]


@database_sync_to_async
def in_thread(call: Any, *arguments: Any, **options: Any) -> Any:
    return call(*arguments, **options)


# --- order and cursors ---------------------------------------------------------


async def test_from_the_start_everything_comes_in_order_and_goes_on_live(tail: Tail) -> None:
    before = await made(5)
    async with reading(tail) as reader:
        await reader.subscribe(after="start")
        assert await reader.got(5) == before
        after = await made(3)

        assert await reader.got(8) == before + after


async def test_from_now_nothing_of_before_comes(tail: Tail) -> None:
    await made(5)
    async with reading(tail) as reader:
        await reader.subscribe(after=None)
        after = await made(2)

        assert await reader.got(2) == after
    assert [frame["type"] for frame in reader.frames] == ["subscribed", "event", "event"]


async def test_each_cursor_goes_on_behind_its_event(tail: Tail) -> None:
    """Also where the stream began: `subscribed` has a cursor, so that a line cut before the first event loses none."""
    ids = await made(6)
    async with reading(tail) as reader:
        await reader.subscribe(after="start")
        await reader.got(6)
        cursors = [frame["cursor"] for frame in reader.frames]
        for number, cursor in enumerate(cursors):
            await reader.subscribe(f"again{number}", after=cursor)
            assert await reader.got(6 - number, f"again{number}") == ids[number:]


async def test_a_cursor_holds_in_another_process(tail: Tail) -> None:
    """Another tail, as of a process that starts later."""
    ids = await made(4)
    async with reading(tail) as reader:
        await reader.subscribe(after="start", credit=2)
        await reader.got(2)
    async with opened_tail() as other, reading(other) as reader_there:
        await reader_there.subscribe(after=reader.frames[-1]["cursor"])

        assert await reader_there.got(2) == ids[2:]


async def test_one_that_fell_behind_what_is_kept_misses_and_repeats_nothing(
    tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail keeps little; the reader hangs meanwhile, and goes on from the table."""
    monkeypatch.setattr(tails, "KEPT", 10)
    async with reading(tail) as slow, reading(tail) as quick:
        for reader in (slow, quick):
            await reader.subscribe(after=None)
        first = await made(3)
        await slow.got(3)
        slow.block()
        more = await made(300)
        await quick.got(303)
        slow.unblock()

        assert await slow.got(303) == first + more
        last = await made(2)
        assert await slow.got(305) == first + more + last


async def test_a_filter_that_selects_little_goes_through_long_gaps(tail: Tail, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a bounded stretch, whether it finds something there or not."""
    monkeypatch.setattr(behind, "SPAN", 7)
    rare = []
    for _ in range(3):
        await made(25)
        rare += await made(1, event_type="order.paid")
    async with reading(tail) as reader:
        await reader.subscribe(filter={"event_type": "order.paid"})
        assert await reader.got(3) == rare
        rare += await made(1, event_type="order.paid")

        assert await reader.got(4) == rare


async def test_a_cursor_older_than_retention_says_where_to_go_on(tail: Tail) -> None:
    ids = await made(6)
    async with reading(tail) as reader:
        await reader.subscribe(after="start")
        await reader.got(6)
        first, third = reader.events()[0], reader.events()[2]

        @database_sync_to_async
        def prune() -> None:
            removed = Message.objects.filter(pk__lte=third["message"]["position"]).order_by("pk")
            place = str(removed.last().pk)
            removed.delete()
            RetentionMark.objects.create(kind="messages", place=place)

        await prune()
        await reader.subscribe("old", after=first["cursor"], ref="r1")
        told = reader.frames[-1]
        assert {"type": "error", "code": "cursor_expired", "id": "old", "ref": "r1"}.items() <= told.items()

        await reader.subscribe("old", after=told["oldest"])
        assert await reader.got(3, "old") == ids[3:]
        await reader.subscribe("start", after="start")
        assert await reader.got(3, "start") == ids[3:]
        await reader.subscribe("exact", after=third["cursor"])
        assert await reader.got(3, "exact") == ids[3:]


async def test_a_purged_message_does_not_spoil_its_cursor(tail: Tail) -> None:
    """A person may remove any message; those who read it last go on all the same."""
    await made(2)
    async with reading(tail) as reader:
        await reader.subscribe(after="start")
        await reader.got(2)
        await database_sync_to_async(Message.objects.all().delete)()
        await reader.subscribe("again", after=reader.frames[-1]["cursor"])
        after = await made(1)

        assert await reader.got(1, "again") == after


@pytest.mark.parametrize("text", ["", "x", "start ", "!!!!", "AAAA", "A" * 500, "_" * 18])
async def test_what_is_no_cursor_is_refused(tail: Tail, text: str) -> None:
    async with reading(tail) as reader:
        assert (await reader.refused(id="s", after=text)).code == "bad_cursor"


async def test_a_cursor_of_another_database_is_refused(tail: Tail) -> None:
    """The same position, but another message; or a position that was never given here."""
    await made(2)
    async with reading(tail) as reader:
        await reader.subscribe(after="start")
        await reader.got(2)
        first, last = reader.events()
        await database_sync_to_async(Message.objects.filter(pk=first["message"]["position"]).update)(message_id="other")
        never_given = str(cursor_of(last["message"]["position"] + 1, 1, "x"))

        assert (await reader.refused(id="a", after=first["cursor"])).code == "unknown_cursor"
        assert (await reader.refused(id="a", after=never_given)).code == "unknown_cursor"
        await reader.subscribe("a", after=last["cursor"])


async def test_many_who_are_behind_alike_share_what_is_read(tail: Tail) -> None:
    """Twenty readers, of two filters, that began at several places: without sharing it were eighty pages and more."""
    ids = await made(1000)
    async with reading(tail) as first:
        await first.subscribe("all", after="start", credit=10_000)
        await first.got(1000, "all")
        cursors = [event["cursor"] for event in first.events("all")[:5]]
    before = tail.behind.reads
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(reading(tail)) for _ in range(20)]
        for number, reader in enumerate(readers):
            wanted = {"source_system": "shop"} if number % 2 else {}
            await reader.subscribe(after=cursors[number % 5], credit=10_000, filter=wanted)
        for number, reader in enumerate(readers):
            assert await reader.got(999 - number % 5) == ids[1 + number % 5 :]
    assert before <= 5  # a thousand, in pages that end at round positions
    assert tail.behind.reads - before < 40


async def test_those_who_are_behind_do_not_hold_up_the_head(tail: Tail) -> None:
    """Fifty go through a thousand old messages each, while one that is up to date gets what comes, soon."""
    old = await made(1000)
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(reading(tail))
        await live.subscribe(after=None)
        behind = [await stack.enter_async_context(reading(tail)) for _ in range(50)]
        for number, reader in enumerate(behind):
            await reader.subscribe(credit=10_000, filter={"source_system": ["shop", f"none-{number}"]})
        new = await made(1)
        assert await live.got(1) == new
        left = sum(1000 - len(reader.events()) for reader in behind)
        for reader in behind:
            assert await reader.got(1001) == old + new
    assert left > 10_000


# --- credit --------------------------------------------------------------------


async def test_no_more_events_come_than_there_is_credit_for(tail: Tail) -> None:
    """Neither of what was there before, nor of what is committed then."""
    ids = await made(10)
    async with reading(tail) as reader, reading(tail) as other:
        await reader.subscribe(credit=3)
        await other.subscribe(credit=100)
        await other.got(10)
        assert await reader.got(3) == ids[:3]
        ids += await made(10)
        await other.got(20)
        assert reader.ids() == ids[:3]
        await reader.streams.credit({"type": "credit", "id": "s", "n": 4})
        assert await reader.got(7) == ids[:7]
        await reader.streams.credit({"type": "credit", "id": "s", "n": 100})

        assert await reader.got(20) == ids


async def test_credit_is_of_one_stream(tail: Tail) -> None:
    ids = await made(4)
    async with reading(tail) as reader:
        await reader.subscribe("a", credit=0)
        await reader.subscribe("b", credit=4)
        await reader.got(4, "b")
        assert reader.ids("a") == []
        await reader.streams.credit({"id": "a", "n": 1})

        assert await reader.got(1, "a") == ids[:1]


async def test_one_that_hangs_keeps_nobody_waiting(tail: Tail) -> None:
    async with reading(tail) as slow, reading(tail) as quick:
        await slow.subscribe(after=None)
        await quick.subscribe(after=None)
        slow.block()
        ids = await made(50)

        assert await quick.got(50) == ids


async def test_after_unsubscribe_no_event_follows_and_the_id_is_free(tail: Tail) -> None:
    async with reading(tail) as reader, reading(tail) as other:
        await reader.subscribe(after=None)
        await other.subscribe(after=None)
        await reader.streams.unsubscribe({"type": "unsubscribe", "id": "s", "ref": 7})
        assert reader.frames[-1] == {"type": "unsubscribed", "id": "s", "ref": 7}
        await made(3)
        await other.got(3)
        assert reader.ids() == []
        await reader.subscribe(after="start")

        assert len(await reader.got(3)) == 3


async def test_the_tail_reads_nothing_while_nobody_follows(tail: Tail) -> None:
    """And after the last one left, the next begins where it asks to."""
    async with reading(tail) as reader:
        await reader.subscribe(after=None)
        first = await made(1)
        assert await reader.got(1) == first
        position = reader.events()[0]["message"]["position"]
        assert tail.holds(position)
    await eventually(lambda: not tail.holds(position))
    missed = await made(2)
    async with reading(tail) as reader_then:
        await reader_then.subscribe(after=reader.frames[-1]["cursor"])

        assert await reader_then.got(2) == missed


# --- filters -------------------------------------------------------------------


FILTERED = [
    ({}, "abcdefg"),
    ({"event_type": "order.paid"}, "a"),
    ({"event_type": "order.*"}, "abc"),
    ({"event_type": "order.item.*"}, "c"),
    ({"event_type": ["order.paid", "invoice.*"]}, "ad"),
    ({"source_system": "shop"}, "abcdef"),
    ({"source_system": ["till", "nobody"]}, "g"),
    ({"target_system": "crm"}, "ab"),
    ({"target_system": "crm/orders"}, "b"),
    ({"target_system": ["crm/main", "erp"]}, "abc"),
    ({"ordering_key": "k1"}, "de"),
    ({"recipient": "anna"}, "f"),
    ({"source_system": "shop", "ordering_key": "k1", "event_type": None}, "de"),
    ({"source_system": "till", "ordering_key": "k1"}, ""),
]


@transaction.atomic
def make_varied() -> None:
    """Make one message after the other, named a to g; each with its deliveries at once, as the intake does."""
    make_delivery(make_message(message_id="a", event_type="order.paid"), "crm")
    two = make_message(message_id="b", event_type="order.made")
    make_delivery(two, "crm", interface="orders")
    make_delivery(two, "erp")
    make_delivery(make_message(message_id="c", event_type="order.item.added"), "erp")
    make_message(message_id="d", event_type="invoice.paid", ordering_key="k1", unrouted=True)
    make_message(message_id="e", event_type="Order.paid", ordering_key="k1")
    make_message(message_id="f", event_type="orders.paid", recipient="anna")
    make_message("till", message_id="g", event_type="order")


@pytest.mark.parametrize(("wanted", "expected"), FILTERED)
async def test_a_filter_selects_the_same_of_what_was_and_of_what_comes(
    tail: Tail, wanted: dict[str, Any], expected: str
) -> None:
    """What is read from the table, and what is shared at the head, go through the same sieve."""
    async with reading(tail) as reader:
        await reader.subscribe("live", after=None, filter=wanted)
        await reader.subscribe("all", after=None)
        await in_thread(make_varied)
        await reader.got(7, "all")
        await reader.got(len(expected), "live")
        assert "".join(reader.ids("live")) == expected
        async with opened_tail() as other, reading(other) as later:
            await later.subscribe("was", filter=wanted)
            await later.subscribe("all")
            await later.got(7, "all")
            await later.got(len(expected), "was")
            assert "".join(later.ids("was")) == expected


# --- who sees what -------------------------------------------------------------


@transaction.atomic
def make_teams() -> dict[str, Principal]:
    """Make messages between the systems of two teams, nobody's and our own; return who may look."""
    red, blue = make_team("red"), make_team("blue")
    systems = {
        "red": make_system("red-one", owner=red),
        "blue": make_system("blue-one", owner=blue),
        "none": make_system("nobodys"),
        "ours": make_system("controlplane"),
    }
    for sender in systems.values():
        make_message(sender, unrouted=True)
        for receiver in ("red", "blue", "none"):
            make_delivery(make_message(sender), systems[receiver])
    both = make_message(systems["none"])
    make_delivery(both, systems["red"])
    make_delivery(both, systems["blue"])
    return {
        "all": OPERATOR,
        "red": Principal("key:red", "operator", team_ids=frozenset({red.pk})),
        "blue": Principal("key:blue", "viewer", team_ids=frozenset({blue.pk})),
        "two": Principal("key:two", "viewer", team_ids=frozenset({red.pk, blue.pk})),
        "none": Principal("key:none", "viewer", team_ids=frozenset()),
        "bound": Principal(
            "key:bound", "operator", team_ids=frozenset({red.pk}), system_id=systems["red"].pk, system_slug="red-one"
        ),
    }


def listed(principal: Principal) -> list[str]:
    return list(lookup.messages(principal).order_by("pk").values_list("message_id", flat=True))


async def test_a_stream_holds_what_the_list_of_messages_does(tail: Tail) -> None:
    """For every kind of caller: live, and from the start."""
    async with reading(tail) as first:
        await first.subscribe(after=None)
        begun = first.frames[0]["cursor"]
        callers = await in_thread(make_teams)
        expected = {name: await in_thread(listed, principal) for name, principal in callers.items()}
        assert await first.got(len(expected["all"])) == expected["all"]
        assert len({len(ids) for ids in expected.values()}) > 2
        for name, principal in callers.items():
            async with reading(tail, principal) as reader:
                await reader.subscribe("shared", after=begun)
                await reader.subscribe("read", after="start")
                for id in ("shared", "read"):
                    await reader.got(len(expected[name]), id)
                    assert reader.ids(id) == expected[name], (name, id)


async def test_receivers_of_another_team_are_not_found_by_a_filter(tail: Tail) -> None:
    """What went to them too is seen, but not that it did."""
    callers = await in_thread(make_teams)
    only_red = Principal("key:red", "viewer", team_ids=callers["red"].team_ids)
    async with reading(tail, only_red) as reader:
        await reader.subscribe("blue", filter={"target_system": "blue-one"})
        await reader.subscribe("red", filter={"target_system": "red-one"})
        # Of its own sender, and of nobody's, which it sees whole; not of the blue one, nor of ours.
        assert len(await reader.got(3, "blue")) == 3
        assert len(await reader.got(5, "red")) == 5
        assert len(reader.events("blue")) == 3


async def test_a_recipient_sees_only_its_own(tail: Tail) -> None:
    """A claim is a filter that cannot be taken off, live and from the table; of other teams it shows nothing more."""
    anna = Principal("token:anna", "operator", recipient="anna", team_ids=frozenset())
    hidden = await in_thread(make_team, "red")
    foreign = await in_thread(make_system, "red-one", owner=hidden)
    async with reading(tail, anna) as reader, reading(tail) as everyone:
        await everyone.subscribe(after=None)
        await reader.subscribe("live", after=None)
        await reader.subscribe("hers", after=None, filter={"recipient": ["anna", "bert"]})
        await reader.subscribe("his", after=None, filter={"recipient": "bert"})
        await made(1, recipient="bert")
        await made(1)
        await made(1, recipient="anna", source=foreign)
        own = await made(2, recipient="anna")
        await everyone.got(5)
        assert await reader.got(2, "live") == own
        assert await reader.got(2, "hers") == own
        async with opened_tail() as other, reading(other, anna) as later:
            await later.subscribe()
            assert await later.got(2) == own
        assert reader.ids("his") == []


async def test_a_viewer_gets_messages_without_payload_an_operator_with_it(tail: Tail) -> None:
    """Field for field as the API shows them."""
    await made(1, payload=b'{"price":1e2}', headers={"k": "v"}, search_keys={"order": "7"}, ttl_s=5.0, targets=["crm"])
    await made(1, payload=b"\x00\xff", content_type="application/octet-stream", targets=["crm", "erp/in"])
    await made(1, payload=None, event_type="order.paid", ordering_key="k", correlation_id="c", reply_to="shop")
    await made(1, payload=b"not json", content_type="application/json", message_type="request", priority=4)
    async with reading(tail) as operator, reading(tail, VIEWER) as viewer:
        await operator.subscribe()
        await viewer.subscribe()
        await operator.got(4)
        await viewer.got(4)

    def as_api(serializer: Any) -> list[Any]:
        rows = lookup.messages(OPERATOR, with_payload=True).order_by("pk")
        shown = orjson.loads(orjson.dumps(serializer(rows, many=True, context={"principal": OPERATOR}).data))
        return [{name: value for name, value in row.items() if name != "deliveries"} for row in shown]

    assert [event["message"] for event in operator.events()] == await in_thread(as_api, MessageDetailSerializer)
    assert [event["message"] for event in viewer.events()] == await in_thread(as_api, MessageSerializer)


async def test_numbers_in_payloads_are_spelled_as_they_were_sent(tail: Tail) -> None:
    await made(1, payload=b'{"price":1e2}')
    async with reading(tail) as reader:
        await reader.subscribe()
        await reader.got(1)

    assert b'"payload":{"price":1e2}' in reader.written[1]


async def test_reading_payloads_is_on_the_record_once_a_stream(tail: Tail) -> None:
    """Not once a message; and not for those who get none."""
    await made(5)
    async with reading(tail) as operator, reading(tail, VIEWER) as viewer, reading(tail, with_payload=False) as page:
        for reader in (operator, viewer, page):
            await reader.subscribe(filter={"source_system": "shop"})
            await reader.got(5)
    noted = await in_thread(lambda: list(AuditEntry.objects.values_list("actor", "action", "changes")))

    assert [entry[:2] for entry in noted] == [("key:reader", "stream_payloads")]
    assert noted[0][2]["filter"] == [None, {"source_system": ["shop"]}]
    assert "payload" not in page.events()[0]["message"]


# --- frames that are refused ---------------------------------------------------


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid", "id"),
    ({"id": 5}, "invalid", "id"),
    ({"id": ""}, "invalid", "id"),
    ({"id": "x" * 65}, "invalid", "id"),
    ({"id": "a\nb"}, "invalid", "id"),
    ({"id": "s", "colour": 1}, "invalid", "colour"),
    ({"id": "s", "filter": []}, "invalid", "filter"),
    ({"id": "s", "filter": "order.*"}, "invalid", "filter"),
    ({"id": "s", "filter": {"eventtype": "x"}}, "invalid", "did you mean event_type"),
    ({"id": "s", "filter": {"event_type": 7}}, "invalid", "filter.event_type"),
    ({"id": "s", "filter": {"event_type": []}}, "invalid", "filter.event_type"),
    ({"id": "s", "filter": {"event_type": ["x", None]}}, "invalid", "filter.event_type"),
    ({"id": "s", "filter": {"event_type": ["x"] * 51}}, "invalid", "filter.event_type"),
    ({"id": "s", "filter": {"event_type": "*"}}, "invalid", "order.*"),
    ({"id": "s", "filter": {"event_type": "*.paid"}}, "invalid", "order.*"),
    ({"id": "s", "filter": {"event_type": "x" * 201}}, "invalid", "filter.event_type"),
    ({"id": "s", "filter": {"source_system": "No Slug"}}, "invalid", "filter.source_system"),
    ({"id": "s", "filter": {"source_system": "erp/orders"}}, "invalid", "filter.source_system"),
    ({"id": "s", "filter": {"target_system": "*"}}, "invalid", "filter.target_system"),
    ({"id": "s", "filter": {"recipient": "a\u0000"}}, "invalid", "filter.recipient"),
    ({"id": "s", "credit": -1}, "invalid", "credit"),
    ({"id": "s", "credit": True}, "invalid", "credit"),
    ({"id": "s", "credit": 1.5}, "invalid", "credit"),
    ({"id": "s", "credit": 10**30}, "invalid", "credit"),
    ({"id": "s", "after": 5}, "invalid", "after"),
    ({"id": "s", "after": {}}, "invalid", "after"),
    ({"id": "s", "after": "now"}, "bad_cursor", "cursor"),
]


@pytest.mark.parametrize(("frame", "code", "detail"), BAD)
async def test_a_bad_frame_is_refused_by_name_and_opens_nothing(
    tail: Tail, frame: dict[str, Any], code: str, detail: str
) -> None:
    async with reading(tail) as reader:
        error = await reader.refused(**frame)
        assert (error.code, error.status) == (code, 400)
        assert detail in error.detail
        await reader.subscribe()
        assert [sent["type"] for sent in reader.frames] == ["subscribed"]


async def test_an_id_is_used_once_and_there_is_an_end_to_how_many(tail: Tail) -> None:
    async with reading(tail) as reader:
        for number in range(MOST):
            await reader.subscribe(f"s{number}")
        assert (await reader.refused(id="s0")).code == "duplicate_id"
        assert (await reader.refused(id="more")).code == "too_many_subscriptions"
        await reader.streams.unsubscribe({"id": "s0"})
        await reader.subscribe("more")


@pytest.mark.parametrize("frame", [{"id": "x"}, {"id": "x", "n": 5}])
async def test_what_is_not_subscribed_can_neither_be_ended_nor_credited(tail: Tail, frame: dict[str, Any]) -> None:
    async with reading(tail) as reader:
        with pytest.raises(NotFound):
            await (reader.streams.credit(frame) if "n" in frame else reader.streams.unsubscribe(frame))


@pytest.mark.parametrize("n", [0, -1, None, "5", True, 100_001])
async def test_credit_is_a_whole_number(tail: Tail, n: Any) -> None:
    async with reading(tail) as reader:
        await reader.subscribe()
        with pytest.raises(Malformed):
            await reader.streams.credit({"type": "credit", "id": "s", "n": n})
