"""The checker checked: it fails where a bug was planted, and each of its questions has an answer that fails it."""

import signal
from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.acceptance.ledgers import (
    Sender,
    compare,
    demand_balance,
    demand_unchanged,
    drain,
    ended,
    inversions,
    overdue_s,
)
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.answers import HANG, Answer
from tests.servers.http import HttpReceiver
from tests.servers.nginx import Nginx
from tests.stack import Stack, Timeout

LEASE_S = 2
GRACE_S = 6


def planted(make_stack: Callable[..., Stack], *, web: str = "", deliver: str = "", lease_s: float = LEASE_S) -> Stack:
    """Return a stack whose processes carry the bugs that are named."""
    stack = make_stack(CONTROLPLANE_LEASE_S=str(lease_s))
    stack.start("web", planted=(web, 1) if web else None)
    stack.start("deliver", planted=(deliver, 1) if deliver else None)
    stack.wait_for(lambda: stack.answers("web"), 60, "web answering")
    return stack


def received(receiver: HttpReceiver) -> list[list[str]]:
    """Return the receiver's book: (delivery id, message id) of each request, in order."""
    return [[request.headers["webhook-id"], request.headers["x-message-id"]] for request in receiver.received]


def test_an_ack_before_the_commit_is_found(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """Killed in between, the web process has promised what nobody has."""
    stack = planted(make_stack, web="ack before commit")
    link = Link(stack, f"{plain_receiver.url}/in")
    sender = Sender(stack, link.source, link.target)
    sender.start()
    stack.wait_for(lambda: len(sender.acknowledged) > 50, what="load")
    stack.kill("web")
    stack.start("web")
    sender.finish()
    drain(stack)

    with pytest.raises(AssertionError, match="acknowledged and not received"):
        compare(stack, sender.acknowledged, plain_receiver.lines())


def test_a_delivery_that_was_never_sent_is_found(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """Our own books look right; the receiver's do not."""
    stack = planted(make_stack, deliver="delivered, never sent")
    link = Link(stack, f"{plain_receiver.url}/in")
    sent = [link.send() for _ in range(30)]
    drain(stack)

    demand_balance(stack)
    with pytest.raises(AssertionError, match="acknowledged and not received"):
        compare(stack, sent, plain_receiver.lines())


def test_a_claim_that_minds_no_lease_is_found(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """What is on its way is claimed and sent once more, though no worker was lost."""
    stack = planted(make_stack, deliver="claim without lease", lease_s=30)
    http_receiver.answer(Answer(200, delay_s=1))
    link = Link(stack, http_receiver.url, timeout_s=30)
    sent = [link.send()]
    http_receiver.wait_for(1)
    sent += [link.send() for _ in range(9)]  # what is due has the worker look, and take what is on its way as well
    stack.wait_for(lambda: len(received(http_receiver)) > len(sent), what="a message coming twice")
    stack.wait_for(lambda: {name for _, name in received(http_receiver)} == set(sent), what="each coming once")

    with pytest.raises(AssertionError, match="received more often than lost"):
        compare(stack, sent, received(http_receiver))


def test_a_worker_that_reclaims_nothing_is_found(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """What a killed worker held stays where it is: overdue by more than is promised, until a sound worker comes."""
    stack = planted(make_stack)
    http_receiver.answer(HANG)
    link = Link(stack, http_receiver.url, timeout_s=60)
    link.send()
    http_receiver.wait_for(1)
    http_receiver.answer(200)
    stack.start("deliver", name="second", planted=("no reclaim", 1))
    running = "SELECT count(*) FROM messaging_process WHERE role = 'deliver'"
    stack.wait_for(lambda: stack.sql(running) == [(2,)], what="the second worker's first beat")
    stack.kill("deliver")

    with pytest.raises(Timeout, match="everything delivered"):
        drain(stack, LEASE_S + GRACE_S + 1)
    assert overdue_s(stack) > GRACE_S
    stack.start("deliver")
    drain(stack)


def test_a_finish_without_fence_is_found(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> None:
    """A worker that was frozen writes over what another has ended."""
    stack = planted(make_stack, deliver="finish without fence")
    http_receiver.answer(Answer(200, delay_s=2))
    link = Link(stack, http_receiver.url, timeout_s=60)
    for _ in range(4):
        link.send()
    http_receiver.wait_for(4)
    stack.freeze("deliver")
    http_receiver.answer(200)
    stack.start("deliver", name="second")
    drain(stack)
    before = ended(stack)
    demand_unchanged(stack, before)

    stack.signal("deliver", signal.SIGCONT)
    stack.kill("second")
    assert link.ended(link.send())["state"] == "delivered"
    with pytest.raises(AssertionError, match="changed after their end"):
        demand_unchanged(stack, before)


def test_each_question_of_the_checker_can_fail(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """A line too few or too many in any of the three books is told apart from the others."""
    stack = planted(make_stack)
    link = Link(stack, f"{plain_receiver.url}/in")
    sent = [link.send() for _ in range(5)]
    drain(stack)
    lines = plain_receiver.lines()

    assert compare(stack, sent, lines) | demand_balance(stack)
    for acknowledged, arrived, complaint in (
        ([*sent, "another"], lines, "acknowledged and not received"),
        (sent, lines[1:], "acknowledged and not received"),
        (sent, [*lines, [str(uuid4()), sent[0]]], "received that were not sent"),
        (sent, [*lines, [lines[0][0], sent[-1]]], "received that were not sent"),
        (sent[1:], lines, "received that were not sent"),
        (sent, [*lines, lines[0]], "received more often than lost"),
        ([*sent, sent[0]], lines, "in one of the books and not in the other"),
    ):
        with pytest.raises(AssertionError, match=complaint):
            compare(stack, acknowledged, arrived)
    stack.sql("UPDATE messaging_delivery SET state = 'dead' WHERE id = ?", lines[0][0].replace("-", ""))
    with pytest.raises(AssertionError, match="did not end as delivered"):
        compare(stack, sent, lines)
    stack.sql("DELETE FROM messaging_attempt WHERE delivery_id = ?", lines[0][0].replace("-", ""))
    stack.sql("DELETE FROM messaging_delivery WHERE id = ?", lines[0][0].replace("-", ""))
    with pytest.raises(AssertionError, match="'balanced': False"):
        demand_balance(stack)


def test_inversions_are_counted_by_key() -> None:
    """The same number again is a duplicate and no inversion; keys stand apart."""
    assert inversions(["a-1", "b-1", "a-2", "a-2", "b-2", "a-10"]) == 0
    assert inversions(["a-1", "a-3", "a-2", "b-9", "a-4", "b-8"]) == 2
