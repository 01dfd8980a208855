"""A sender and a receiver registered for one test, and the questions a test asks of what flows between them."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import requests

from tests.stack import Stack

FINAL = ("delivered", "dead", "expired", "cancelled", "skipped")


class Link:
    """Two systems with new names, so that many tests share one stack without meeting."""

    def __init__(self, stack: Stack, url: str | None, **endpoint: Any) -> None:
        tag = uuid4().hex[:8]
        self.stack, self.source, self.target = stack, f"from-{tag}", f"to-{tag}"
        stack.register(self.source)
        quick = {"retry_schedule_s": [0.1], "timeout_s": 5}
        made = stack.register(self.target, url, **({**quick, **endpoint} if url else {}))
        self.endpoint = made.get("endpoint", {}).get("id", "")

    def message(self, **fields: Any) -> dict[str, Any]:
        """Return a message over this link in the API's fields."""
        return {"source_system": self.source, "target_system": self.target, "payload": {"n": 1}, **fields}

    def post(self, key: str | None = None, headers: dict[str, str] | None = None, **fields: Any) -> requests.Response:
        """Post one message and return whatever is answered."""
        return self.stack.api("POST", "messages/", json=self.message(**fields), key=key, headers=headers or {})

    def send(self, **fields: Any) -> str:
        """Have one message accepted and return its id."""
        answer = self.post(**fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["message_id"])

    def delivery(self, message_id: str) -> dict[str, Any]:
        """Return the one delivery of a message, tries and all."""
        path = f"deliveries/?message_id={message_id}&source_system={self.source}"
        [found] = self.stack.api("GET", path).json()["results"]
        return dict(self.stack.api("GET", f"deliveries/{found['id']}/").json())

    def until(self, message_id: str, *states: str, reason: str = "", timeout: float = 40) -> dict[str, Any]:
        """Return the delivery once it is in one of `states` (and for `reason`)."""

        def reached() -> dict[str, Any] | None:
            found = self.delivery(message_id)
            return found if found["state"] in states and reason in ("", found["reason"]) else None

        found = self.stack.wait_for(reached, timeout, f"{message_id} becoming {' or '.join(states)} {reason}")
        assert found is not None
        return found

    def ended(self, message_id: str, timeout: float = 40) -> dict[str, Any]:
        """Return the delivery once it has ended, however."""
        return self.until(message_id, *FINAL, timeout=timeout)

    def act(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """POST an action and return its answer."""
        answer = self.stack.api("POST", path, json=body or {})
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())


def seconds_between(earlier: str, later: str) -> float:
    """Return how far apart two times of the API are."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
