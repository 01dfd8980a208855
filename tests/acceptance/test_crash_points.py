"""Processes die wherever it could hurt, one after the other, under load; nothing is lost, and nothing made up."""

import json
import signal
from collections.abc import Callable, Iterable

import pytest

from tests.acceptance.crashing import ENGINE_POINTS, INTAKE_POINTS
from tests.acceptance.ledgers import Sender, compare, demand_balance, drain
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.nginx import Nginx
from tests.stack import Stack

pytestmark = pytest.mark.timeout(900)
NTH = (1, 7)


@pytest.mark.parametrize(
    ("role", "points", "nth"),
    [("web", INTAKE_POINTS, NTH), ("deliver", ENGINE_POINTS, NTH[:1])],
    ids=["web", "deliver"],
)
def test_a_crash_at_any_point_loses_nothing(
    make_stack: Callable[..., Stack],
    plain_receiver: Nginx | PlainServer,
    role: str,
    points: Iterable[str],
    nth: Iterable[int],
) -> None:
    """Both ends' books agree with ours after a SIGKILL before and after each commit, each send and each answer."""
    stack = make_stack(CONTROLPLANE_LEASE_S="2")
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, f"{plain_receiver.url}/in")
    sender = Sender(stack, link.source, link.target, connections=8)
    sender.start()
    crashes = [(point, number) for point in points for number in nth]
    stack.kill(role)
    for planted in crashes:
        stack.start(role, planted=planted)
        stack.wait_for(lambda: stack.processes[role].poll() is not None, 60, f"the crash {planted}")
        assert stack.processes.pop(role).returncode == -signal.SIGKILL, stack.log(role)
        assert stack.log(role).endswith(f"crashed {planted[0]}"), stack.log(role)
    stack.start(role)
    sender.finish()
    drain(stack)

    figures = compare(stack, sender.acknowledged, plain_receiver.lines()) | {"crashes": len(crashes)}
    print(f"\n{stack.database_url.partition(':')[0]}, {role}: {json.dumps(figures)}")
    books = demand_balance(stack)
    assert books["expected"] == books["states"]["delivered"] == len(sender.acknowledged)
