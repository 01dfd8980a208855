"""What agents do, as events: a feed for each user, and runs of agents that write to it."""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

KEPT_EVENTS = 2000  # of one user
Event = dict[str, Any]


class Feed:
    """The events of one user, numbered by `cursor` from 1; who waits for more is woken."""

    def __init__(self, user: str, broken: Collection[str]) -> None:
        self.user, self.broken = user, broken
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.cursor = self.listeners = 0
        self.runs: dict[str, AgentRun] = {}
        self.changed = asyncio.Event()

    def add(self, event: Event) -> None:
        if "loses-while-away" in self.broken and not self.listeners:
            return
        self.cursor += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.events.append({**event, "user": self.user, "cursor": self.cursor, "at": at})
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def after(self, cursor: int) -> list[Event]:
        """Return what came behind `cursor`."""
        return [event for event in self.events if event["cursor"] > cursor]


@dataclass(frozen=True)
class Tool:
    """One thing an agent is to do: how long that takes, whether it works, and whether it waits for its user first."""

    name: str
    takes_s: float
    fails: bool
    waits: bool


class AgentRun:
    """One run of an agent: it begins with `begin`, and may be interrupted and begun again where it was."""

    def __init__(self, feed: Feed, run: str, agent: str, tools: Sequence[Tool], pace_s: float) -> None:
        self.feed, self.run, self.agent, self.tools, self.pace_s = feed, run, agent, tools, pace_s
        self.done = self.seq = 0
        self.call = 0  # the tool that is executing, counted from 1
        self.answered = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def is_working(self) -> bool:
        return self.task is not None and not self.task.done()

    def begin(self) -> None:
        self.task = asyncio.create_task(self._work())

    def interrupt(self) -> None:
        if self.task is not None and "cannot-stop" not in self.feed.broken:
            self.task.cancel()

    async def _work(self) -> None:
        try:
            outcome = await self._steps()
        except asyncio.CancelledError:
            if self.call:
                self._tell("tool_completed", tool=self.tools[self.call - 1].name, call=self.call, outcome="cancelled")
                self.call = 0
            outcome = "interrupted"
        if "forgets-to-finish" not in self.feed.broken:
            self._tell("agent_completed", outcome=outcome)

    async def _steps(self) -> str:
        self._tell("agent_started", resumed=self.seq > 0)
        if "does-it-again" in self.feed.broken:
            self.done = 0
        await asyncio.sleep(self.pace_s)
        if not self.tools:
            self._think("there is nothing to do")
        while self.done < len(self.tools):
            tool = self.tools[self.done]
            self._think(f"{tool.name} is next")
            await asyncio.sleep(self.pace_s)
            if await self._use(tool) == "failed":
                return "failed"
            self.done += 1
        return "done"

    async def _use(self, tool: Tool) -> str:
        call, outcome = self.done + 1, "failed" if tool.fails else "ok"
        told = "ok" if "hides-failures" in self.feed.broken else outcome
        is_backwards = call > 1 and "tells-backwards" in self.feed.broken
        if is_backwards:
            self._tell("tool_completed", tool=tool.name, call=call, outcome=told)
        self._tell("tool_executing", tool=tool.name, call=call)
        self.call = call
        if tool.waits:
            await self.answered.wait()
            self.answered.clear()
        await asyncio.sleep(tool.takes_s)
        self.call = 0
        if not is_backwards:
            self._tell("tool_completed", tool=tool.name, call=call, outcome=told)
        await asyncio.sleep(self.pace_s)
        return told

    def _think(self, thought: str) -> None:
        self._tell("agent_thinking", thought=thought)

    def _tell(self, kind: str, **more: Any) -> None:
        self.seq += 1
        if kind == "agent_thinking" and "thinks-silently" in self.feed.broken:
            return
        self.feed.add({"type": kind, "run": self.run, "agent": self._name(), "seq": self.seq, **more})

    def _name(self) -> str:
        if "mixes-agents" in self.feed.broken:
            others = [run.agent for run in self.feed.runs.values() if run.is_working and run is not self]
            return others[0] if others else self.agent
        return self.agent
