"""Why: who may ask, what is answered, and that it costs the same whatever waits."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from messaging.models import Reason, State
from tests.messaging.api_client import Api
from tests.messaging.factories import (
    make_attempt,
    make_delivery,
    make_endpoint,
    make_message,
    make_system,
    make_team,
)


def waiting(**fields: Any) -> Any:
    now = timezone.now()
    system = make_system(
        "erp", contact="erp@example.test", runbook_url="https://run.test/erp", owner=make_team("Team ERP")
    )
    make_endpoint(system, interface="orders")
    message = make_message(make_system("webshop"), created_at=now - timedelta(hours=1), search_keys={"order": "4711"})
    more = {"interface": "orders", "reason": Reason.RETRYING, "due_at": now + timedelta(hours=1), "attempts": 9}
    return make_delivery(message, system, State.PENDING, **(more | fields))


def test_the_sentence_says_all_of_it(admin: Api) -> None:
    delivery = waiting()
    for _ in range(9):
        make_attempt(
            delivery,
            outcome="retry",
            status_code=500,
            error_class="server_error",
            error="answered 500",
            response_body=b"deadlock detected",
        )
    for _ in range(3):
        waiting()
    status, body = admin.get(f"deliveries/{delivery.pk}/why/")

    assert status == 200
    for part in (
        "webshop -> erp/orders, waiting since",
        "erp: it answered 500 nine times, last 'deadlock detected'",
        "3 others wait for the same reason; next try",
        "owner of erp: Team ERP, contact erp@example.test, runbook https://run.test/erp",
    ):
        assert part in body["text"]
    assert [action["name"] for action in body["actions"]][-1] == "cancel"
