"""Hooks: `POST /in/<listener>/`, a bare ASGI callable in front of Django for whoever cannot be told our envelope.

A sender proves itself by its usual signature; what it sends is kept byte for byte, and
the fields of its envelope are read from the places that the listener declares.
"""

import asyncio
import contextlib
import hashlib
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import structlog
from django.db import Error as DatabaseError

from endpoints.access import secrets
from endpoints.access.memory import Memory
from endpoints.access.signed import signers_of
from endpoints.edge import strict_json, wire
from endpoints.edge.apart import LONG, apart
from endpoints.edge.database_threads import DatabaseThreads
from endpoints.edge.places import address_of
from endpoints.edge.wire import JSON_HEADER, TEXT_HEADER, Header, Send
from endpoints.errors import ControlPlaneError, Forbidden, NotFound, Overloaded, Unauthenticated, UnsupportedMediaType
from endpoints.transports.bodies import is_json
from messaging.intake.answers import accepted
from messaging.intake.bodies import Body, Budget, ClientGone, Receive
from messaging.intake.counter import Intake
from messaging.intake.envelope import Draft
from messaging.intake.fields import check_content_type
from messaging.intake.heads import Headers, Scope
from messaging.intake.keys import Document
from messaging.listening.challenges import CHALLENGES, Asked, Told
from messaging.listening.devices import Device
from messaging.listening.mapping import effort_of, mapped
from messaging.listening.purposes import is_a_datagrams
from messaging.listening.reporting import CHANGED_S, Reporter
from messaging.listening.rows import BYTES, device_of
from messaging.listening.signatures import SCHEMES, Scheme
from messaging.listening.tally import Tally
from messaging.models import Listener, ListenerKind

log = structlog.get_logger(__name__)

PREFIX = "/in/"
SLUG = re.compile(r"[a-z0-9-]{1,63}")
REMEMBER_S = 0.75
MAX_REMEMBERED = 1000
MISSING = "missing"


class NotPosted(ControlPlaneError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"


@dataclass(frozen=True, slots=True)
class Hook:
    """A listener of kind hook, with its secrets open."""

    id: UUID
    slug: str
    scheme: Scheme
    asked: Asked | None  # answers a sender that asks by GET whether we are there
    secrets: tuple[bytes, ...]
    is_own_secret: bool  # else they are the keys that the system signs datagrams with, too
    fields: dict[str, str]
    device: Device


def is_hook(scope: Scope) -> bool:
    """Say whether this request is answered here."""
    return scope["type"] == "http" and scope["path"].startswith(PREFIX)


class HookIntake:
    """The ASGI application behind `/in/`."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._budget = Budget()
        self._known = Memory(MAX_REMEMBERED)
        self._threads = DatabaseThreads("hooks")
        self._tallies: dict[UUID, Tally] = {}
        self._reporter = Reporter()
        self._reports: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        if self._reports is not None:
            self._reports.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reports
            with contextlib.suppress(DatabaseError):
                await self._threads.run(self._reporter.leave)
        self._threads.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive, self._budget)
        try:
            status, header, answer = await self._answer(scope, body)
            headers = [header]
        except ControlPlaneError as exc:
            status, headers, answer = wire.refusal(exc)
            if isinstance(exc, NotPosted):
                headers.append((b"allow", b"POST"))
        except ClientGone:
            return
        finally:
            body.close()
        await wire.answer(send, status, headers, answer)

    async def _answer(self, scope: Scope, body: Body) -> tuple[int, Header, bytes]:
        hook = await self._find(scope["path"].removeprefix(PREFIX).removesuffix("/"))
        asked = hook.asked if scope["method"] == "GET" else None
        if asked is None and scope["method"] != "POST":
            raise NotPosted("a hook is posted to")
        tally = self._tally(hook)
        address = address_of(scope)
        headers = wire.headers_of(scope)
        try:
            if hook.device.networks and not hook.device.knows(address, frozenset()):
                raise Forbidden("this hook is for other addresses", code="wrong_address")
            if asked is not None:
                return 200, *_told(asked, hook, scope.get("query_string", b""), headers)
            answer = await self._take(hook, headers, body, tally, address)
        except ControlPlaneError as exc:
            tally.refuse(address, exc.code, exc.detail)
            raise
        return answer

    async def _take(
        self, hook: Hook, headers: Headers, body: Body, tally: Tally, address: str
    ) -> tuple[int, Header, bytes]:
        wire.require_plain(headers)
        data = await body.read(headers, hook.device.cap)
        now = time.time()
        signed = hook.scheme.check(headers, data, hook.secrets, now)
        if not hook.is_own_secret and is_a_datagrams(signed, now):
            raise Unauthenticated("what was signed could be a datagram, and is no hook", code="bad_signature")
        is_long = effort_of(hook.fields, data) > LONG
        draft = await apart(_draft, hook, headers, data) if is_long else _draft(hook, headers, data)
        if hook.scheme.challenge is not None and (challenge := hook.scheme.challenge(draft.value)) is not None:
            return 200, TEXT_HEADER, challenge
        if hook.scheme.mark is not None and not draft.message_id and not draft.idempotency_key:
            draft.idempotency_key = _once(hook, hook.scheme.mark(headers, data))
        answer, _ = await self._intake.accept_one(draft, hook.device.principal)
        tally.take([answer], address)
        return 202, JSON_HEADER, accepted(answer)

    # -- which hook

    async def _find(self, slug: str) -> Hook:
        found = self._known.get(slug) if SLUG.fullmatch(slug) else MISSING
        if found is None:
            read_at = time.monotonic()
            try:
                found = await self._threads.run(_load, slug) or MISSING
            except DatabaseError as exc:
                raise Overloaded("the database does not answer", code="database", retry_after_s=5) from exc
            self._known.put(slug, found, read_at + REMEMBER_S)
        if not isinstance(found, Hook):
            raise NotFound("there is no such hook, or it is closed")
        return found

    def _tally(self, hook: Hook) -> Tally:
        if self._reports is None:
            self._reports = asyncio.create_task(self._report(), name="hook-reports")
        return self._tallies.setdefault(hook.id, Tally(hook.slug))

    async def _report(self) -> None:
        """Write down what is seen, from the first hook that is called on."""
        try:
            while True:
                await asyncio.sleep(CHANGED_S)
                try:
                    if due := self._reporter.due({key: (tally, "") for key, tally in self._tallies.items()}):
                        await self._threads.run(self._reporter.write, due)
                except DatabaseError:  # the next round will tell
                    continue
                except Exception:  # a reporter that ended would show every hook as it was then
                    log.exception("hook_reports_failed")
        finally:
            self._reports = None


def _load(slug: str) -> Hook | None:
    """Return the hook as the table says now, None when there is none that is open."""
    rows = Listener.objects.select_related("system", "credential")
    listener = rows.filter(slug=slug[:63], kind=ListenerKind.HOOK, enabled=True).first()
    if listener is None or listener.system is None:
        return None
    scheme = SCHEMES[listener.signature or "none"]
    keys: tuple[bytes, ...] = ()
    if listener.credential is not None:
        data = secrets.decrypt(listener.credential.data)
        keys = (str(data.get("secret") or data.get("token") or "").encode(),)
    elif scheme.needs_secret:
        keys = tuple(signer.secret for signer in signers_of(listener.system))
    is_own, asked = listener.credential is not None, CHALLENGES.get(listener.signature)
    return Hook(listener.pk, listener.slug, scheme, asked, keys, is_own, dict(listener.fields), device_of(listener))


def _told(asked: Asked, hook: Hook, query: bytes, headers: Headers) -> Told:
    """Return what a sender is told that asks whether we are there."""
    named = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    if (told := asked(named, headers, hook.secrets)) is None:
        raise NotPosted("a hook is posted to")
    return told


def _once(hook: Hook, mark: bytes) -> str:
    """Return the key under which a signed call is stored once: a copy of it is answered as the duplicate it is."""
    return f"hook-{hashlib.blake2b(mark, digest_size=16, key=hook.id.bytes).hexdigest()}"


def _draft(hook: Hook, headers: Headers, data: bytes) -> Draft:
    """Return the message that a call brings; raises Malformed."""
    device, given = hook.device, headers.get(b"content-type", b"").decode("latin-1")
    try:
        content_type = check_content_type(given) if device.content_type == BYTES and given else device.content_type
    except ValueError as exc:
        raise UnsupportedMediaType(f"content-type {exc}") from exc
    value: Any = strict_json.parse(data) if is_json(content_type) else None
    return Draft(
        payload=data,
        content_type=content_type,
        message_type=device.message_type,
        target_system=[device.target] if device.target else None,
        value=value,
        **{"event_type": device.event_type, **mapped(hook.fields, headers, Document(value, data))},
    )
