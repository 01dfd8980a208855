"""The server: one connection speaks for one user, starts agents, and is told what they do as far as it gives credit."""

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from examples.agent_events.agents import AgentRun, Feed, Tool

MOST_USERS, MOST_RUNS, MOST_TOOLS, LONGEST_S = 1000, 100, 20, 120.0
UNLIMITED = 1_000_000
_quiet = logging.getLogger("examples.agent_events")
_quiet.setLevel(logging.CRITICAL)  # a connection that is cut is no news here


class BadFrame(Exception):
    """A frame that is not understood; the client is told why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class AgentEventsServer:
    """Listens at `port` of loopback from `start` to `stop`; `broken` holds the switches that are on."""

    def __init__(self, port: int, broken: Collection[str] = ()) -> None:
        self.port, self.broken = port, set(broken)
        self.feeds: dict[str, Feed] = {}
        self._server: Server | None = None

    async def start(self) -> None:
        self.feeds = {}
        if "down" not in self.broken:
            self._server = await serve(self._talk, "127.0.0.1", self.port, max_size=65_536, logger=_quiet)

    async def stop(self) -> None:
        working = [run.task for feed in self.feeds.values() for run in feed.runs.values() if run.task]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _talk(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await Conversation(self, connection).run()

    def feed(self, user: str) -> Feed:
        """Return a user's feed; the oldest of too many is forgotten."""
        if user not in self.feeds:
            if len(self.feeds) >= MOST_USERS:
                del self.feeds[next(iter(self.feeds))]
            self.feeds[user] = Feed(user, self.broken)
        return self.feeds[user]


class Conversation:
    """One connection: what the client says, and a task that sends it the events of its user."""

    def __init__(self, server: AgentEventsServer, connection: ServerConnection) -> None:
        self.server, self.connection = server, connection
        self.credit = UNLIMITED
        self.sent = dict[str, int]()  # feed: the last cursor it was sent
        self.sending: asyncio.Task[None] | None = None
        self.own: Feed | None = None

    async def run(self) -> None:
        try:
            async for data in self.connection:
                await self._hear(data)
        finally:
            if self.own is not None:
                self.own.listeners -= 1
            if self.sending is not None:
                self.sending.cancel()
                with suppress(asyncio.CancelledError, ConnectionClosed):
                    await self.sending

    async def _hear(self, data: str | bytes) -> None:
        frame: Any = None
        try:
            frame = _read(data)
            heard = HEARD.get(str(frame.get("type")))
            if heard is None:
                raise BadFrame("unknown_type", f"known are {', '.join(HEARD)}")
            await heard(self, frame)
        except BadFrame as exc:
            if "takes-offence" in self.server.broken and exc.code in ("not_json", "unknown_type"):
                await self.connection.close(1008, exc.code)
                return
            await self._say({"type": "error", "code": exc.code, "detail": exc.detail, "ref": _ref(frame)})

    async def _say(self, frame: dict[str, Any]) -> None:
        await self.connection.send(json.dumps(frame))

    # -- what a client may say ------------------------------------------------------

    async def hello(self, frame: dict[str, Any]) -> None:
        """Say who it is; `after` is the last cursor it has seen, `credit` how many events it can take."""
        if self.own is not None:
            raise BadFrame("already_known", "one connection speaks for one user")
        feed = self.server.feed(_text(frame, "user"))
        self.own = feed
        feed.listeners += 1
        self.sent[feed.user] = _number(frame, "after", feed.cursor, least=0)
        if "tells-twice" in self.server.broken and "after" in frame:
            self.sent[feed.user] = 0
        self.credit = _number(frame, "credit", UNLIMITED, least=0)
        await self._say({"type": "ready", "user": feed.user, "cursor": self.sent[feed.user]})
        self.sending = asyncio.create_task(self._send_events(feed))
        for each in self.server.feeds.values():  # who is taken for several is told of those who come later, too
            each.wake()

    async def start(self, frame: dict[str, Any]) -> None:
        """Let an agent work, under a run's name that is new to this user."""
        feed, name = self._feed(), _text(frame, "run")
        if name in feed.runs:
            raise BadFrame("taken", f"there is a run '{name}' already")
        if len(feed.runs) >= MOST_RUNS:
            del feed.runs[next(iter(feed.runs))]
        pace_s = _number(frame, "pace_ms", 2, least=0) / 1000
        run = AgentRun(feed, name, _text(frame, "agent"), _tools(frame), min(pace_s, LONGEST_S))
        before = [other.task for other in feed.runs.values() if other.is_working and other.task]
        feed.runs[name] = run
        if before and "one-at-a-time" in self.server.broken:
            before[-1].add_done_callback(lambda _: run.begin())
        else:
            run.begin()

    async def interrupt(self, frame: dict[str, Any]) -> None:
        """Stop an agent where it is; it says so by agent_completed."""
        run = self._run(frame)
        if not run.is_working:
            raise BadFrame("not_working", f"run '{run.run}' has ended")
        run.interrupt()

    async def answer(self, frame: dict[str, Any]) -> None:
        """Let a tool go on that waits for its user."""
        self._run(frame).answered.set()

    async def resume(self, frame: dict[str, Any]) -> None:
        """Let an agent go on where it was interrupted."""
        run = self._run(frame)
        if "forgets-runs" in self.server.broken:
            raise BadFrame("unknown_run", f"there is no run '{run.run}'")
        if run.is_working:
            raise BadFrame("working", f"run '{run.run}' is at work")
        run.begin()

    async def give_credit(self, frame: dict[str, Any]) -> None:
        """Take `n` events more."""
        more = _number(frame, "n", 0, least=1)
        if "stalls" not in self.server.broken:
            self.credit = min(self.credit + more, UNLIMITED)
            self._feed().wake()

    # -- what it is told ------------------------------------------------------------

    async def _send_events(self, own: Feed) -> None:
        while True:
            changed = [feed.changed for feed in self._feeds(own)]
            for feed in self._feeds(own):
                for event in feed.after(self.sent.setdefault(feed.user, feed.cursor)):
                    if self.credit <= 0 and "floods" not in self.server.broken:
                        break
                    self.credit -= 1
                    self.sent[feed.user] = event["cursor"]
                    await self._say(event)
            waiting = [asyncio.ensure_future(each.wait()) for each in changed]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waiting:
                    each.cancel()

    def _feeds(self, own: Feed) -> list[Feed]:
        if "mistakes-users" in self.server.broken:
            return [feed for user, feed in self.server.feeds.items() if user.startswith(own.user)]
        return [own]

    def _feed(self) -> Feed:
        if self.own is None:
            raise BadFrame("unknown_user", "say hello first")
        return self.own

    def _run(self, frame: dict[str, Any]) -> AgentRun:
        name = _text(frame, "run")
        feeds = [self._feed()]
        if "obeys-strangers" in self.server.broken:
            feeds += self.server.feeds.values()
        run = next((feed.runs[name] for feed in feeds if name in feed.runs), None)
        if run is None:
            raise BadFrame("unknown_run", f"there is no run '{frame['run']}'")
        return run


HEARD: dict[str, Callable[[Conversation, dict[str, Any]], Any]] = {
    "hello": Conversation.hello,
    "start": Conversation.start,
    "answer": Conversation.answer,
    "interrupt": Conversation.interrupt,
    "resume": Conversation.resume,
    "credit": Conversation.give_credit,
}


def _read(data: str | bytes) -> dict[str, Any]:
    try:
        frame = json.loads(data)
    except ValueError as exc:
        raise BadFrame("not_json", "frames are JSON objects") from exc
    if not isinstance(frame, dict):
        raise BadFrame("not_json", "frames are JSON objects")
    return frame


def _ref(frame: Any) -> Any:
    return frame.get("ref") if isinstance(frame, dict) else None


def _text(frame: dict[str, Any], name: str) -> str:
    value = frame.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 100:
        raise BadFrame("bad_field", f"{name} must be a text of 1 to 100 characters")
    return value


def _number(frame: dict[str, Any], name: str, default: int, *, least: int) -> int:
    value = frame.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= UNLIMITED:
        raise BadFrame("bad_field", f"{name} must be a whole number of {least} to {UNLIMITED}")
    return value


def _tools(frame: dict[str, Any]) -> list[Tool]:
    """Read `[{"tool": "search", "ms": 10, "fails": false}]`."""
    given = frame.get("tools", [])
    if not isinstance(given, list) or len(given) > MOST_TOOLS or not all(isinstance(each, dict) for each in given):
        raise BadFrame("bad_field", f"tools must be a list of at most {MOST_TOOLS} objects")
    return [
        Tool(
            _text(each, "tool"),
            min(_number(each, "ms", 2, least=0) / 1000, LONGEST_S),
            fails=each.get("fails") is True,
            waits=each.get("waits") is True,
        )
        for each in given
    ]
