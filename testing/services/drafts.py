"""First suites: found is what they are made from, as far as the caller may see it, and what of it is secret."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from endpoints import egress
from endpoints.access import roles, secrets
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError, NotFound, Refused
from endpoints.models import Credential, Endpoint, System, SystemState
from endpoints.transports import claimer_of
from endpoints.transports.base import TransportError
from endpoints.transports.gateway import GatewayTransport
from endpoints.transports.udp import answers_probes
from messaging.models import Attempt, Delivery, Message, Priority, State
from messaging.services import lookup
from testing.drafting import curl, message, openapi, system
from testing.drafting.cleaning import Cleaner
from testing.drafting.draft import Draft
from testing.models import Suite

MOST_RECEIVERS = 20
MOST_DOORS = 20
FETCH_S = 15.0
OVER_TLS = ("https", "wss", "tls")
DEFAULT_PORTS = {"http": 80, "https": 443}
# Of these nothing is expected: nobody was to get it.
NOT_EXPECTED = (State.SKIPPED, State.CANCELLED)


def make(asked: Mapping[str, Any], *, by: Principal) -> Draft:
    """Return the draft that was asked for in the API's fields: the one of WAYS that is given, else of a system."""
    roles.require(by, "suites", "draft")
    way = next((name for name in WAYS if asked.get(name)), "")
    return WAYS[way](asked, by) if way else of_system(asked.get("system", ""), by=by)


def _by_id(asked: Mapping[str, Any], by: Principal) -> Draft:
    return of_message(lookup.message(by, asked["message"], asked.get("source_system")), by=by)


def _by_delivery(asked: Mapping[str, Any], by: Principal) -> Draft:
    return of_delivery(delivery_named(asked["delivery"], by=by), by=by)


def delivery_named(pk: UUID, *, by: Principal) -> Delivery:
    """Return a delivery; raises NotFound."""
    found: Delivery | None = Delivery.objects.visible_to(by).filter(pk=pk).first()
    if found is None:
        raise NotFound("there is no such delivery")
    return found


# What a draft can be made from, by the name of what is given.
WAYS: dict[str, Callable[[Mapping[str, Any], Principal], Draft]] = {
    "message": _by_id,
    "delivery": _by_delivery,
    "curl": lambda asked, by: of_curl(asked["curl"], by=by, target=asked.get("system", "")),
    "openapi": lambda asked, by: of_openapi(asked["openapi"].encode(), by=by, target=asked.get("system", "")),
    "openapi_url": lambda asked, by: of_openapi_url(asked["openapi_url"], by=by, target=asked.get("system", "")),
}


def of_message(found: Message, *, by: Principal, delivery: Delivery | None = None) -> Draft:
    """Return a suite that sends the like of a message; with a delivery, to its receiver alone.

    Reading the payload is written down. Raises Forbidden, or Refused when retention took it.
    """
    roles.require(by, "suites", "draft")
    payload = lookup.view_payload(found, by=by)
    if payload is None:
        raise Refused("the payload was removed by retention, so no suite can send it", code="no_draft")
    rows = Delivery.objects.visible_to(by).filter(message=found).exclude(state__in=NOT_EXPECTED)
    rows = rows.select_related("system").order_by("id")
    if delivery is not None:
        rows = Delivery.objects.filter(pk=delivery.pk).select_related("system")
    receivers = list(rows[:MOST_RECEIVERS])
    sent = message.Sent(
        message_id=found.message_id,
        source=found.source.slug,
        message_type=found.message_type,
        event_type=found.event_type,
        priority=Priority(found.priority).name.lower(),
        recipient=found.recipient,
        content_type=found.content_type,
        headers=found.headers,
        payload=payload,
        receivers=[_receiver(row) for row in receivers],
        is_routed=found.targets is None,
        is_ordered=bool(found.ordering_key),
        answer=_answer(found, receivers),
    )
    slug = _free_slug(message.slug_for(sent))
    return message.draft_message(sent, slug, Cleaner(_secrets_of([found.source, *(row.system for row in receivers)])))


def of_delivery(delivery: Delivery, *, by: Principal) -> Draft:
    """Return a suite from what became of a message at one receiver, such as a dead letter."""
    return of_message(lookup.messages(by, with_payload=True).get(pk=delivery.message_id), by=by, delivery=delivery)


def of_curl(line: str, *, by: Principal, target: str = "") -> Draft:
    """Return a suite that asks what a curl line asks; raises Malformed, or Refused when nobody has that address."""
    roles.require(by, "suites", "draft")
    asked = curl.read_curl(line)
    name, party = _target(target, asked.url, by)
    return curl.draft_curl(asked, name, _free_slug(curl.slug_for(asked, name)), Cleaner(_secrets_of([party])))


def of_openapi(body: bytes, *, by: Principal, target: str = "", url: str = "") -> Draft:
    """Return a suite of what an OpenAPI document lets one read; `url` is where it was found, if that is known."""
    roles.require(by, "suites", "draft")
    document = openapi.read_openapi(body)
    server = openapi.server_url(document)
    name, party = _target(target, server if "://" in server else url, by)
    slug = _free_slug(openapi.slug_for(document, name))
    return openapi.draft_openapi(document, name, slug, Cleaner(_secrets_of([party])))


def of_openapi_url(url: str, *, by: Principal, target: str = "") -> Draft:
    """Fetch an OpenAPI document over our own way out, and return a suite of it; raises Refused when it is not there."""
    roles.require(by, "suites", "draft")
    try:
        # The one crossing from here into a loop: a person waits for it, and no transaction is open.
        found = asyncio.run(egress.fetch(url, max_bytes=openapi.MOST_BYTES, timeout_s=FETCH_S))
    except TransportError as exc:
        raise Refused(f"the document could not be fetched: {exc.detail}", code="not_fetched") from exc
    if found.status != 200:
        raise Refused(f"the document could not be fetched: {found.status}", code="not_fetched")
    return of_openapi(found.body, by=by, target=target, url=url)


def of_system(slug: str, *, by: Principal) -> Draft:
    """Return a suite that looks whether a system is there; raises NotFound, or Refused when no step can look."""
    roles.require(by, "suites", "draft")
    party = _system(slug, by)
    rows = Endpoint.objects.filter(system=party).order_by("interface", "tier", "name")
    doors: dict[str, system.Door] = {}
    for row in rows:
        if "test" in row.use and row.interface not in doors and len(doors) < MOST_DOORS:
            tls = row.config.get("tls") or {}
            doors[row.interface] = system.Door(
                interface=row.interface,
                protocol=row.protocol,
                is_tls=row.protocol in OVER_TLS,
                verifies=tls.get("verify", True) is True,
                can_tell=row.protocol != "udp" or answers_probes(row.config),
                is_fetched=claimer_of(row.protocol) == GatewayTransport.CLAIMED_BY,
            )
    wanted = _free_slug(system.slug_for(slug))
    found = system.draft_system(wanted, slug, party.name, list(doors.values()), Cleaner())
    if found is None:
        raise Refused(
            f"'{slug}' has no endpoint that a draft can look at by itself; make one from a message to it",
            code="no_draft",
        )
    return found


def _receiver(delivery: Delivery) -> message.Receiver:
    last = Attempt.objects.filter(delivery=delivery).order_by("-number", "-id").only("status_code").first()
    return message.Receiver(
        system=delivery.system.slug,
        interface=delivery.interface,
        state=str(delivery.state),
        status_code=last.status_code if last is not None else None,
        error_class=delivery.error_class,
        error=delivery.error,
    )


def _answer(found: Message, receivers: Iterable[Delivery]) -> tuple[bytes, str] | None:
    """Return what the receiver of a request said; an answer bears the id of the delivery that it answers."""
    ids = [str(row.pk) for row in receivers]
    if found.message_type != "request" or not ids:
        return None
    answer = Message.objects.filter(message_id__in=ids, message_type="response").order_by("position").first()
    if answer is None or answer.payload is None:
        return None
    return bytes(answer.payload), answer.content_type


def _target(target: str, url: str, by: Principal) -> tuple[str, System]:
    """Return the system[/interface] that a suite is to ask: the one named, or the one that has the address."""
    if target:
        slug, _, interface = target.partition("/")
        party = _system(slug, by)
        wanted = Endpoint.objects.filter(system=party, interface=interface or "main")
        if not wanted.filter(protocol__in=DEFAULT_PORTS).exists():
            raise Refused(f"'{target}' has no http endpoint", code="no_draft")
        return target, party
    if not url:
        raise Refused("the document names no server; name the system to ask", code="no_draft")
    address = curl.url_of(url)
    rows: QuerySet[Any] = Endpoint.objects.visible_to(by).filter(protocol=address.scheme, host__iexact=address.host)
    port = Q(port=address.port)
    if address.port == DEFAULT_PORTS[address.scheme]:
        port |= Q(port__isnull=True)
    there = list(rows.filter(port).exclude(system__state=SystemState.RETIRED).select_related("system").order_by("pk"))
    if not there:
        raise Refused(
            f"no system has an endpoint at {address.scheme}://{address.host}:{address.port}; register it, or name one",
            code="unknown_address",
        )
    nearest = max(_shared(row.path, address.path) for row in there)
    parties = {_named(row): row.system for row in there if _shared(row.path, address.path) == nearest}
    if len({system.pk for system in parties.values()}) > 1:
        raise Refused(f"{', '.join(sorted(parties))} have endpoints at that address; name one", code="no_draft")
    return min(parties.items(), key=lambda pair: "/" in pair[0])  # the main door before others


def _named(endpoint: Endpoint) -> str:
    return endpoint.system.slug if endpoint.interface == "main" else f"{endpoint.system.slug}/{endpoint.interface}"


def _shared(registered: str, asked: str) -> int:
    """Return with how many segments an endpoint's path begins the one that is asked for; -1 when it does not."""
    own, wanted = ([part for part in path.split("?")[0].split("/") if part] for path in (registered, asked))
    return len(own) if wanted[: len(own)] == own else -1


def _system(slug: str, by: Principal) -> System:
    found: System | None = System.objects.visible_to(by).filter(slug=slug).first()
    if found is None:
        raise NotFound(f"there is no system '{slug[:63]}'")
    return found


def _free_slug(wanted: str) -> str:
    """Return a slug that no suite has, of whichever team."""
    taken = set(Suite.objects.filter(slug__startswith=wanted[:58]).values_list("slug", flat=True))
    found, number = wanted, 2
    while found in taken:
        found, number = f"{wanted[:58].strip('-')}-{number}", number + 1
    return found


def _secrets_of(systems: Iterable[System]) -> set[str]:
    """Return the secret texts of the credentials that these systems' endpoints use, or that their teams hold."""
    parties = list(systems)
    owners = {party.owner_id for party in parties}
    wanted = Q(endpoints__system__in=parties) | Q(owner__in=owners - {None})
    if None in owners:
        wanted |= Q(owner__isnull=True)
    found: set[str] = set()
    for row in Credential.objects.filter(wanted).distinct():
        try:
            found |= set(_texts(secrets.decrypt(row.data)))
        except ControlPlaneError:
            continue  # nobody can open it, so nobody can have copied it from here
    return found


def _texts(data: Any) -> Iterable[str]:
    if isinstance(data, dict):
        for name, value in data.items():
            if name not in PUBLIC:
                yield from _texts(value)
    elif isinstance(data, str):
        yield data


# Fields of credentials that are no secret: taking them out would tear words from everything.
PUBLIC = frozenset({"header", "username", "client_id", "token_url", "scope", "audience", "auth", "algorithm", "cert"})
