"""What the hub knows: tenants with their users, messages, and what still has to be confirmed. No sockets in here."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

RETRY_S = 0.3
ATTEMPTS = 3
RANKS = {"high": 0, "normal": 1, "low": 2}
Frame = dict[str, Any]
Say = Callable[[Frame], Awaitable[None]]


@dataclass
class User:
    """One user: the line to each of their connections, and what waits for the first of them."""

    lines: list[Say] = field(default_factory=list)
    waiting: list[Frame] = field(default_factory=list)


@dataclass
class Tenant:
    users: dict[str, User] = field(default_factory=dict)
    said: list[Frame] = field(default_factory=list)
    dead: list[Frame] = field(default_factory=list)


class Hub:
    """All tenants; `broken` holds the names of the switches that are on."""

    def __init__(self, broken: Collection[str]) -> None:
        self.broken = broken
        self.tenants: dict[str, Tenant] = {}
        self._unconfirmed: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self._held: Frame | None = None

    async def enter(self, tenant: str, name: str, say: Say) -> None:
        """Connect a user, and send what waited: the more urgent first, each priority in order."""
        user = self.tenants.setdefault(tenant, Tenant()).users.setdefault(name, User())
        user.lines.append(say)
        waiting, user.waiting = user.waiting, []
        if "ignores-priority" not in self.broken:
            waiting.sort(key=lambda message: RANKS.get(message["priority"], 1))
        for message in waiting:
            await say(message)

    def leave(self, tenant: str, name: str, say: Say) -> None:
        lines = self.tenants[tenant].users[name].lines
        if say in lines:
            lines.remove(say)

    async def take(self, tenant: str, sender: str, frame: Frame) -> Frame:
        """Take a message; return what its sender is told."""
        here, to = self.tenants[tenant], str(frame.get("to", ""))
        if to != "*" and to not in here.users:
            return {"type": "error", "code": "unknown_user", "id": frame.get("id")}
        message = {
            "type": "message",
            "id": str(frame.get("id")),
            "seq": next(self._numbers),
            "from": sender,
            "to": to,
            "thread": frame.get("thread"),
            "text": str(frame.get("text", "")),
            "priority": str(frame.get("priority", "normal")),
            "attempt": 1,
        }
        if "forgets" not in self.broken:
            here.said.append(message)
        for of, name in self._recipients(tenant, sender, to):
            await self._deliver(of, name, message, confirm=bool(frame.get("confirm")))
        return {"type": "accepted", "id": message["id"]}

    def confirm(self, tenant: str, name: str, frame: Frame) -> None:
        waiting = self._unconfirmed.pop((tenant, name, str(frame.get("id"))), None)
        if waiting is not None and "ignores-confirmations" not in self.broken:
            waiting.cancel()

    def history(self, tenant: str, name: str, thread: Any) -> list[Frame]:
        return [message for message in self._theirs(tenant, name) if message["thread"] == thread]

    def found(self, tenant: str, name: str, text: str) -> list[Frame]:
        if "finds-everything" in self.broken:
            return list(self.tenants[tenant].said)
        return [message for message in self._theirs(tenant, name) if text in message["text"]]

    def dead(self, tenant: str, name: str) -> list[Frame]:
        return [message for message in self.tenants[tenant].dead if message["from"] == name]

    def close(self) -> None:
        for waiting in self._unconfirmed.values():
            waiting.cancel()

    def _theirs(self, tenant: str, name: str) -> list[Frame]:
        return [message for message in self.tenants[tenant].said if name in (message["from"], message["to"])]

    def _recipients(self, tenant: str, sender: str, to: str) -> list[tuple[str, str]]:
        everybody = [(tenant, name) for name in self.tenants[tenant].users if name != sender]
        if to != "*":
            return everybody if "leaks" in self.broken else [(tenant, to)]
        if "skips-somebody" in self.broken:
            everybody = everybody[:1]
        if "mixes-tenants" in self.broken:
            everybody += [(of, "eve") for of, there in self.tenants.items() if of != tenant and "eve" in there.users]
        return everybody

    async def _deliver(self, tenant: str, name: str, message: Frame, *, confirm: bool) -> None:
        if confirm:
            key = (tenant, name, message["id"])
            self._unconfirmed[key] = asyncio.ensure_future(self._until_confirmed(tenant, name, message))
        elif message["thread"] is not None and "overtakes" in self.broken and self._held is None:
            self._held = message
        else:
            await self._send(tenant, name, message)
            held, self._held = self._held, None
            if held is not None:
                await self._send(tenant, name, held)

    async def _until_confirmed(self, tenant: str, name: str, message: Frame) -> None:
        attempts = 1 if "never-retries" in self.broken else 10_000 if "never-gives-up" in self.broken else ATTEMPTS
        for attempt in range(1, attempts + 1):
            await self._send(tenant, name, {**message, "attempt": attempt})
            await asyncio.sleep(RETRY_S)
        if attempts == ATTEMPTS:
            self.tenants[tenant].dead.append(message)

    async def _send(self, tenant: str, name: str, message: Frame) -> None:
        user = self.tenants[tenant].users[name]
        if user.lines:
            for say in list(user.lines):
                await say(message)
        elif "forgets-the-absent" not in self.broken:
            user.waiting.append(message)
