"""A receiver that fetches, and the link that leads to it."""

from typing import Any
from uuid import uuid4

import requests

from tests.acceptance.link import Link
from tests.stack import Stack


class PullLink(Link):
    """A sender, and a receiver with one pull endpoint and a key bound to it."""

    def __init__(self, stack: Stack, *, role: str = "viewer", lease_s: float = 30, **endpoint: Any) -> None:
        super().__init__(stack, None)
        quick = {"retry_schedule_s": [0.1], "config": {"lease_s": lease_s}, "max_in_flight": 1000}
        answer = stack.api("POST", "endpoints/", json={"system": self.target, "protocol": "pull", **quick, **endpoint})
        assert answer.status_code == 201, answer.text
        self.endpoint = answer.json()["id"]
        self.inbox = Inbox(stack, self.target, self.new_key(role))

    def new_key(self, role: str = "viewer", system: str = "") -> str:
        """Return a new key that is bound to the receiver, or another system."""
        body = {"name": f"fetch-{uuid4().hex[:6]}", "role": role, "system": system or self.target}
        answer = self.stack.api("POST", "keys/", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def send_many(self, count: int, **fields: Any) -> list[str]:
        """Have so many messages accepted in one batch, numbered in their payloads; return their ids."""
        batch = [self.message(payload={"n": n}, **fields) for n in range(count)]
        answer = self.stack.api("POST", "messages/", json=batch)
        assert answer.status_code == 202, answer.text
        return [row["message_id"] for row in answer.json()["results"]]


class Inbox:
    """One consumer, with its own connection and key."""

    def __init__(self, stack: Stack, system: str, key: str) -> None:
        self.stack, self.system, self.key = stack, system, key
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["X-API-Key"] = key

    def ask(self, **query: Any) -> requests.Response:
        """Ask for deliveries and return whatever is answered."""
        return self.session.get(f"{self.stack.url}/api/v1/systems/{self.system}/inbox/", params=query, timeout=90)

    def fetch(self, **query: Any) -> list[dict[str, Any]]:
        """Return what is leased to us."""
        answer = self.ask(**query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    def say(self, word: str, fetched: dict[str, Any], **body: Any) -> requests.Response:
        """Ack or nack what was fetched, by its lease; return whatever is answered."""
        path = f"{self.stack.url}/api/v1/deliveries/{fetched['delivery_id']}/{word}/"
        return self.session.post(path, json={"attempt": fetched["attempt"], **body}, timeout=30)

    def ack(self, fetched: dict[str, Any], **body: Any) -> dict[str, Any]:
        answer = self.say("ack", fetched, **body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def nack(self, fetched: dict[str, Any], **body: Any) -> dict[str, Any]:
        answer = self.say("nack", fetched, **body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def numbers(fetched: list[dict[str, Any]]) -> list[int]:
    """Return the `n` of each payload, in the order given."""
    return [each["message"]["payload"]["n"] for each in fetched]
