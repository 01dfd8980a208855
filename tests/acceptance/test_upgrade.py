"""A new version is installed while messages flow: the schema changes below the old one, which then makes room."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.acceptance.ledgers import Sender, compare, demand_balance, drain
from tests.acceptance.link import Link
from tests.acceptance.plain_server import PlainServer
from tests.servers.nginx import Nginx
from tests.stack import PYTHON, ROOT, Stack

pytestmark = pytest.mark.timeout(600)
STOP_S = 30


def test_an_upgrade_with_a_live_queue_loses_nothing(
    make_stack: Callable[..., Stack], plain_receiver: Nginx | PlainServer
) -> None:
    """Migrate under load, stop each process in time, start it again: lost 0, and nothing is sent twice."""
    stack = make_stack(CONTROLPLANE_LEASE_S="30")
    stack.start("web")
    stack.start("deliver")
    link = Link(stack, f"{plain_receiver.url}/in")
    sender = Sender(stack, link.source, link.target)
    sender.start()

    def demand_flow(what: str) -> None:
        enough = len(sender.acknowledged) + 50
        stack.wait_for(lambda: len(sender.acknowledged) > enough, 60, f"messages accepted {what}")
        sent = len(plain_receiver.lines()) + 50
        stack.wait_for(lambda: len(plain_receiver.lines()) > sent, 60, f"messages delivered {what}")

    demand_flow("before")
    command = [PYTHON, "-m", "tests.acceptance.upgrading"]
    done = subprocess.run(command, cwd=ROOT, env=stack.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert stack.sql("SELECT count(*) FROM messaging_delivery WHERE remark IS NOT NULL") == [(0,)]
    demand_flow("by the old version on the new schema")
    stops = []
    for role in ("deliver", "web"):
        begun = time.monotonic()
        stack.terminate(role, STOP_S)
        stops.append(round(time.monotonic() - begun, 1))
        stack.start(role)
    demand_flow("by the new version")
    assert stack.command("migrate", "--verbosity=0").returncode == 0
    sender.finish()
    drain(stack)

    figures = compare(stack, sender.acknowledged, plain_receiver.lines()) | {"stopped after s": stops}
    figures |= {"refused": sum(sender.refused.values()), "unanswered": sender.unanswered}
    print(f"\n{stack.database_url.partition(':')[0]}: {json.dumps(figures)}")
    assert (figures["duplicates"], figures["claims lost"]) == (0, 0)
    assert set(sender.refused) <= {(503, True)}
    demand_balance(stack)
