"""One client's connection: let in, read frame by frame, looked after, closed with a code that says why."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog

from endpoints.edge import wire
from endpoints.edge.places import Place, Places, address_of
from endpoints.errors import ControlPlaneError, Forbidden, LimitExceeded, Malformed, Unauthenticated
from endpoints.models import USUAL_MESSAGE_BYTES
from messaging.gateway import auth, frames
from messaging.gateway.auth import Caller
from messaging.gateway.closing import Closed, Code, PeerGone
from messaging.gateway.deliveries import Deliveries
from messaging.gateway.frames import BadFrame
from messaging.gateway.outgoing import Outgoing
from messaging.gateway.sends import Sends
from messaging.gateway.streams import Subscriptions, Tail
from messaging.gateway.watching import Stored
from messaging.intake.counter import Intake

log = structlog.get_logger(__name__)

AUTH_S = 5.0
FLUSH_S = 1.0
STRIKES = 3
TOKEN_AGAIN_S = 30.0
BREATH = 32  # frames read in one go
SETTLE_S = 5.0  # for what was taken before the server stops to be stored and answered

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Any], Awaitable[None]]


class Connection:
    """Run it with `run`; whoever else wants it closed says so with `end`."""

    def __init__(self, scope: Event, receive: Receive, send: Send, intake: Intake, tail: Tail, places: Places) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._line: dict[str, Callable[..., None]] = scope.get("extensions", {}).get("controlplane.line", {})
        self._outgoing = Outgoing(send, self._room_came)
        self._sends = Sends(intake, self._outgoing.push)
        self._tail, self._places = tail, places
        self._place: Place | None = None
        self._strikes = 0
        self._read_again_at = 0.0
        self._seen: object = None  # what was stored of the caller when it was looked up last
        self._ending: Closed | None = None
        self._reader: asyncio.Task[Any] | None = None
        self.caller: Caller | None = None
        self.deliveries = Deliveries(self._outgoing)
        self.streams: Subscriptions | None = None  # from when it is known who asks

    async def run(self) -> None:
        """Serve the client until either side ends it."""
        self._reader = asyncio.current_task()
        is_ours = False
        try:
            await self._let_in()
            await self._read()
        except PeerGone as exc:
            is_ours = exc.args == (Code.AGAIN,)
        except Closed as exc:
            self._ending = exc
        except asyncio.CancelledError:
            if self._ending is None:
                raise
        finally:
            self._reader = None  # `end` comes too late now, and must not break off the cleaning up
            comes_again = self._ending is not None and self._ending.code == Code.AGAIN
            self.deliveries.close(is_ours=is_ours or comes_again)
            if comes_again:
                await self._sends.settle(SETTLE_S)
            await self._sends.aclose()
            if self.streams is not None:
                await self.streams.aclose()
            if self._ending is not None:
                await self._close(self._ending)
            await self._outgoing.aclose()
            if self._place is not None:
                self._place.leave()

    def end(self, code: Code, reason: str) -> None:
        """Close the connection from outside."""
        if self._ending is None and self._reader is not None:
            self._ending = Closed(code, reason)
            self._reader.cancel()

    def stop(self) -> bool:
        """Close because the server stops: what was read of the client is answered first.

        Return False for one that is not let in yet: it is the server's to turn away.
        """
        if self.caller is None:
            return False
        self.end(Code.AGAIN, "the server stops; connect again")
        return True

    def check_pace(self, now: float) -> None:
        """Close it when the client does not read what it is sent."""
        if self._outgoing.is_slow(now):
            self.end(Code.SLOW, "too slow: what was sent is not read")

    def tell(self, frame: Event) -> None:
        """Send a frame; a `ref` of None is left out."""
        if frame.get("ref") is None:
            frame.pop("ref", None)
        self._outgoing.push(orjson.dumps(frame))

    async def take_message(self, ref: str | None, message: Any) -> None:
        """Hand a message to the intake, as soon as there is room for it."""
        assert self.caller is not None
        await self._sends.room()
        self._sends.add(ref, message, self._size, self.caller.principal, self.caller.slug)

    async def name_system(self, token: Any, system: Any) -> None:
        """Speak for `system` from now on; raises ControlPlaneError when that is not for this caller."""
        assert self.caller is not None
        if token not in (None, self.caller.token) or self.caller.party is not None or system is None:
            raise Malformed("this connection knows already who it speaks for", code="authenticated")
        self.caller = await auth.identify(self.caller.token, system)
        self._ready()

    async def look_again(self, stored: Stored) -> None:
        """Close it when its caller may not be here any more; who it is, is asked when what is stored of it changed."""
        if self.caller is None:
            return
        principal, party = self.caller.principal, self.caller.party
        if party is not None and (name := stored.name_of(party.id)) and name != party.slug:
            self._renamed(name)
            return
        seen = [stored.keys.get(principal.key_id)] if principal.key_id else []
        seen += [stored.systems.get(party.id)] if party else []
        seen += [stored.teams.get(team) for team in sorted(principal.team_ids or ())]
        now = time.time()
        is_good = None not in seen and seen == self._seen and now < self.caller.ends_at
        # Whether its issuer still publishes a token's key is stored nowhere; reading all each time would be slow.
        if is_good and (principal.key_id or now < self._read_again_at):
            return
        try:
            fresh = await auth.identify(self.caller.token, None if principal.system_id else self.caller.slug)
        except (Unauthenticated, Forbidden, Malformed) as exc:
            self.end(Code.FORBIDDEN, exc.detail)
        except ControlPlaneError as exc:  # nobody can say now: ask again the next time
            log.warning("gateway_caller_not_looked_up", error=str(exc))
        else:
            self._seen, self._read_again_at = seen, now + TOKEN_AGAIN_S
            self._renew(fresh)

    def _renew(self, fresh: Caller) -> None:
        assert self.caller is not None
        before, now = self.caller.party, fresh.party
        if before is not None and now is not None and before.id == now.id and before.slug != now.slug:
            self._renamed(now.slug)
        elif fresh.principal.recipient != self.caller.principal.recipient or fresh.slug != self.caller.slug:
            self.end(Code.FORBIDDEN, "the key speaks for somebody else now")
        self.caller = fresh
        self.deliveries.renew(fresh)
        if self.streams is not None:
            self.streams.principal = fresh.principal

    def _renamed(self, slug: str) -> None:
        """Let the client come again: who it speaks as stands in many places here, and in its own messages."""
        self.end(Code.AGAIN, f"the system is called {slug} now; connect again")

    async def _let_in(self) -> None:
        """Accept always, so that a refusal reaches the client with its code; return once it is known who it is.

        Who shows a token with the request is known before the line is open: the first frame may be a large one.
        """
        await self._event()
        refusal: Closed | None = None
        try:
            self._place = self._places.enter(address_of(self._scope))
            token = self._token_in_head()
            if token is not None:
                await self._admit(token, None)
        except LimitExceeded as exc:
            refusal = Closed(Code.FULL, exc.detail)
        except Closed as exc:
            refusal = exc
        self._allow()
        await self._send({"type": "websocket.accept"})
        if refusal is not None:
            raise refusal
        if self.caller is None:
            await self._be_named()
        self._ready()

    def _token_in_head(self) -> str | None:
        headers = wire.headers_of(self._scope)
        auth.check_origin(headers)
        return auth.token_in_head(headers, self._scope.get("query_string", b""))

    async def _be_named(self) -> None:
        """Wait for the `auth` frame."""
        try:
            async with asyncio.timeout(AUTH_S):
                frame = frames.parse(await self._text())
        except TimeoutError as exc:
            raise Closed(Code.UNAUTHENTICATED, f"no `auth` frame within {AUTH_S:g} s") from exc
        except BadFrame as exc:
            raise Closed(Code.UNAUTHENTICATED, f"the first frame must be `auth`: {exc.detail}") from exc
        try:
            await self._admit(auth.token_in_frame(frame), frame.get("system"))
        except LimitExceeded as exc:
            raise Closed(Code.FULL, exc.detail) from exc

    async def _admit(self, token: str, named: Any) -> None:
        assert self._place is not None
        caller = await auth.admit(token, named)
        self._place.belong_to(caller.principal)
        self.caller = caller

    def _allow(self) -> None:
        """Take frames as large as the caller may send."""
        if self.caller is not None and "allow" in self._line:
            most = self.caller.party.max_message_bytes if self.caller.party is not None else USUAL_MESSAGE_BYTES
            self._line["allow"](most * 3 // 2)

    def _ready(self) -> None:
        assert self.caller is not None
        self.tell({"type": "ready", "system": self.caller.slug})
        self._allow()
        self.deliveries.open(self.caller)
        if self.streams is None:
            self.streams = Subscriptions(self._tail, self.caller.principal, self._stream, self._outgoing)

    async def _stream(self, frame: Event) -> None:
        """Send a frame of a stream once there is room for it."""
        await self._outgoing.room()
        self._outgoing.push(orjson.dumps(frame))

    async def _read(self) -> None:
        for number in itertools.count(1):
            await self._outgoing.room()
            if not number % BREATH:  # what is there already is read without waiting, and then nobody else would get on
                await asyncio.sleep(0)
            try:
                await frames.take(self, await self._text())
            except BadFrame as exc:
                self._strikes += 1
                self.tell({"type": "error", "ref": exc.ref, "code": exc.code, "detail": exc.detail})
                if self._strikes >= STRIKES:
                    raise Closed(Code.BAD_FRAMES, f"{STRIKES} bad frames; the last one: {exc.detail}") from exc

    async def _text(self) -> str:
        """Return the next text frame; raises BadFrame for a binary one."""
        event = await self._event()
        text = event.get("text")
        self._size = len(text) if text is not None else 0
        if text is None:
            raise BadFrame("frames are text")
        return str(text)

    async def _event(self) -> Event:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise PeerGone(event.get("code"))
        return event

    async def _close(self, closed: Closed) -> None:
        """Say why, after what is still to be said; a line that takes nothing is cut."""
        log.info("gateway_connection_closed", code=int(closed.code), reason=closed.reason, system=self._slug())
        if closed.code == Code.SLOW and "cut" in self._line:
            self._line["cut"](int(closed.code), closed.reason)
            return
        await self._outgoing.flush(FLUSH_S)
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._send({"type": "websocket.close", "code": int(closed.code), "reason": closed.reason})
        except (OSError, RuntimeError, TimeoutError):
            if "cut" in self._line:
                self._line["cut"](int(closed.code), closed.reason)

    def _slug(self) -> str | None:
        return self.caller.slug if self.caller else None

    def _room_came(self) -> None:
        self.deliveries.room_came()
