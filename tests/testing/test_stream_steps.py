"""What a suite hears of our own gateway: events in order, each recipient's own, from a cursor on."""

import json
from pathlib import Path

from tests.acceptance.conftest import shared_stack
from tests.stack import Stack

__all__ = ["shared_stack"]

SUITE = """\
suite: streams
systems: {shop: stream-shop}
vars: {order: "${{ run.id }}", key: "${{ secret.stream-key.token }}"}
cases:
  - case: in-order-per-recipient
    steps:
      - {stream: {session: all, key: "${{ vars.key }}", filter: {ordering_key: "${{ vars.order }}"}},
         assert: [{status: {eq: subscribed}}, {events: {empty: true}}]}
      - {stream: {session: ann, key: "${{ vars.key }}", filter: {ordering_key: "${{ vars.order }}", recipient: ann}},
         assert: [{status: {eq: subscribed}}]}
      - {message: {from: shop, event_type: order.paid, ordering_key: "${{ vars.order }}",
                   recipient: ann, payload: {n: 1}},
         assert: [{status: {eq: unrouted}}]}
      - {message: {from: shop, event_type: order.sent, ordering_key: "${{ vars.order }}",
                   recipient: bob, payload: {n: 2}},
         assert: [{status: {eq: unrouted}}]}
      - {message: {from: shop, event_type: order.done, ordering_key: "${{ vars.order }}",
                   recipient: ann, payload: {n: 3}},
         assert: [{status: {eq: unrouted}}]}
      - stream: {session: all, until: {event_type: order.done}}
        assert:
          - {"events.$[*].payload.n": {eq: [1, 2, 3]}}
          - {events.0.event_type: {eq: order.paid}}
        capture: {cursor: events.0.cursor}
      - {stream: {session: ann, expect: 2, listen: 200ms}, assert: [{"events.$[*].payload.n": {eq: [1, 3]}}]}
      - stream: {key: "${{ vars.key }}", filter: {ordering_key: "${{ vars.order }}"},
                 after: "${{ captures.cursor }}", expect: 2}
        assert: [{"events.$[*].payload.n": {eq: [2, 3]}}]
      - stream: {session: slow, key: "${{ vars.key }}", filter: {ordering_key: "${{ vars.order }}"},
                 after: "${{ captures.cursor }}", credit: 1, expect: 2, within: 300ms}
        assert: [{error.class: {eq: timeout}}, {events: {len: {eq: 1}}}]
      - {stream: {session: slow, credit: 1, expect: 1}, assert: [{events.0.payload.n: {eq: 3}}]}
  - case: refused
    steps:
      - {stream: {key: cp_nobody_knows}, assert: [{error.class: {eq: auth}}]}
      - {stream: {key: "${{ vars.key }}", after: nonsense}, assert: [{status: {eq: bad_cursor}}]}
  - case: never-comes
    steps:
      - {stream: {key: "${{ vars.key }}", filter: {ordering_key: nobody}, expect: 1, within: 200ms},
         assert: [{status: {eq: subscribed}}]}
"""


def test_a_suite_hears_the_gateway_as_its_clients_do(shared_stack: Stack, tmp_path: Path) -> None:
    """What was committed comes in order, to a recipient only its own; what does not come is a failure."""
    key = shared_stack.key("operator")
    shared_stack.api("POST", "systems/", json={"slug": "stream-shop", "name": "Shop"})
    token = {"name": "stream-key", "kind": "bearer", "data": {"token": key}}
    assert shared_stack.api("POST", "credentials/", json=token).status_code == 201
    (tmp_path / "suite.yaml").write_text(SUITE)
    done = shared_stack.command("run_suite", str(tmp_path / "suite.yaml"), f"--report=json={tmp_path}/r.json")

    raw = (tmp_path / "r.json").read_text()
    cases = {case["case"]: case for case in json.loads(raw)["cases"]}
    assert (done.returncode, key in raw) == (1, False), done.stdout + done.stderr
    told = {name: (case["verdict"], case["reason"]) for name, case in cases.items()}
    assert told["in-order-per-recipient"] == ("passed", "")
    assert told["refused"] == ("passed", "")
    assert told["never-comes"][0] == "failed"
    assert "0 of 1 messages within 0.2 s" in told["never-comes"][1]
