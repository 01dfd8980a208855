"""Load worked by a real worker process, on both databases: cancelled in time, stored, shown in the report."""

import time
from collections.abc import Callable

from tests.servers.fixtures import http_receiver
from tests.servers.http import HttpReceiver
from tests.stack import Stack
from tests.testing.test_suites_api import ended, started

__all__ = ["http_receiver"]

TEXT = """\
suite: shop-load
systems: {api: crm}
cases:
  - case: busy
    load: {stages: [{for: 10m, at: 50/s}]}
    steps: [{http: {system: api}, assert: [{status: {eq: 200}}]}]
"""


def test_a_load_is_cancelled_within_a_second_and_what_it_measured_is_kept(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver
) -> None:
    """Ten minutes end at once; nothing is sent after that."""
    stack = make_stack()
    stack.start("web")
    stack.start("worker")
    stack.register("crm", http_receiver.url)
    assert stack.api("POST", "suites/", json={"text": TEXT}).status_code == 201
    run = started(stack, "shop-load")
    http_receiver.wait_for(60)
    asked = time.monotonic()
    assert stack.api("POST", f"runs/{run['id']}/cancel/").status_code == 200
    found = ended(stack, run)
    print(f"cancelled in {time.monotonic() - asked:.2f} s")
    sent = len(http_receiver.received)

    assert (found["verdict"], time.monotonic() - asked < 10) == ("cancelled", True)
    case = stack.api("GET", f"runs/{run['id']}/report.json").json()["cases"][0]
    assert case["load"]["figures"]["iterations"] >= 50
    assert sum(case["load"]["chart"]["series"]["done"]) == case["load"]["figures"]["iterations"]
    assert len(http_receiver.received) == sent
