"""The door of receivers that fetch: their inbox, and what they say of it; a bare ASGI callable in front of Django.

A call may wait for a minute, and thousands may do so at once: none holds a thread.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from endpoints.access.authenticate import aauthenticate
from endpoints.access.principal import Principal
from endpoints.edge import strict_json, wire
from endpoints.edge.places import Places, address_of
from endpoints.edge.wire import JSON_HEADER, Send
from endpoints.errors import ControlPlaneError, NotFound
from messaging.intake.bodies import MAX_BODY_BYTES, Body, Budget, ClientGone, Receive
from messaging.intake.directory import find_parties
from messaging.intake.heads import Headers, Scope, token_of
from messaging.intake.leaving import unless_gone
from messaging.pulling.desk import Desk
from messaging.pulling.ending import Word
from messaging.pulling.leasing import Wish
from messaging.pulling.rights import require_receiver
from messaging.pulling.words import read_query, read_word

INBOX = re.compile(r"/api/v1/systems/([-a-zA-Z0-9_]+)/inbox/")
WORD = re.compile(r"/api/v1/deliveries/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(ack|nack)/")
WAYS = {"GET": INBOX, "POST": WORD}
NOT_KEPT = (b"cache-control", b"no-store")


def is_pulling(scope: Scope) -> bool:
    """Say whether this request is answered here; sessions (no key in the headers) go to Django, which refuses them."""
    if scope["type"] != "http" or not scope["path"].endswith(("/inbox/", "ack/")):
        return False
    way = WAYS.get(scope["method"])
    has_key = any(name in (b"authorization", b"x-api-key") for name, _ in scope["headers"])
    return has_key and way is not None and way.fullmatch(scope["path"]) is not None


class PullDoor:
    """The ASGI application behind these paths."""

    def __init__(self, desk: Desk, places: Places) -> None:
        self._desk, self._places = desk, places
        self._budget = Budget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = wire.headers_of(scope)
        try:
            ask = self._fetch if scope["method"] == "GET" else self._say
            status, named, told = 200, [JSON_HEADER, NOT_KEPT], await ask(scope, headers, receive)
        except ControlPlaneError as exc:
            status, named, told = wire.refusal(exc)
        except ClientGone:
            return
        await wire.answer(send, status, named, told)

    async def _fetch(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        token = token_of(headers)
        by = await aauthenticate(token)
        place = self._places.enter(address_of(scope))
        try:
            place.belong_to(by)
            return await self._wait(scope, token, by, receive)
        finally:
            place.leave()

    async def _wait(self, scope: Scope, token: str, by: Principal, receive: Receive) -> bytes:
        """Return the parcel for `by`, once there is one or the time is over."""
        asked = read_query(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        wish = await self._wish(INBOX.fullmatch(scope["path"])[1], asked, by)  # type: ignore[index]
        parcel = await unless_gone(self._desk.fetch(wish, asked["wait"]), receive, self._desk.give_back)
        if parcel.claims and asked["wait"]:
            try:
                await self._wish(wish.system, asked, await aauthenticate(token))  # while it waited, its rights may end
            except (ControlPlaneError, asyncio.CancelledError):
                self._desk.give_back(parcel)
                raise
        return parcel.body

    async def _wish(self, slug: str, asked: Mapping[str, Any], by: Principal) -> Wish:
        """Return what is asked for; raises NotFound or Forbidden for whom it is not."""
        party = (await find_parties({slug})).get(slug)
        if party is None:
            raise NotFound("there is no such inbox")
        require_receiver(by, party.id, party.owner_id)
        return Wish(by, (party.id, asked["interface"]), party.slug, party.owner_id, asked["max"])

    async def _say(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        by = await aauthenticate(token_of(headers))
        found = WORD.fullmatch(scope["path"])
        assert found is not None
        body = Body(receive, self._budget)
        try:
            text = await body.read(headers, MAX_BODY_BYTES)
            given = strict_json.parse(text, exact_numbers=True) if text.strip() else {}
            word = read_word(Word(by, UUID(found[1]), is_ack=found[2] == "ack"), given)
            return orjson.dumps((await self._desk.say(word)).as_json(), option=orjson.OPT_UTC_Z)
        finally:
            body.close()
