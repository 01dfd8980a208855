"""Whether those who are connected may still speak: asked for all of them at once."""

from collections.abc import Iterable
from uuid import UUID

import structlog
from django.db import Error as DatabaseError
from django.db.models import Q
from django.db.models.functions import Now

from endpoints.access import roles
from endpoints.access.authenticate import aauthenticate
from endpoints.edge.database_threads import DatabaseThreads
from endpoints.errors import Forbidden, Overloaded, Unauthenticated
from endpoints.models import ApiKey
from messaging.listening.connection import Connection
from messaging.listening.envelopes import EnvelopeConnection

log = structlog.get_logger(__name__)
_threads = DatabaseThreads("revoked")


async def still_known(connections: Iterable[Connection]) -> None:
    """Close the connections whose key was revoked or ran out; one query for all keys, whatever their number."""
    known = [found for found in connections if isinstance(found, EnvelopeConnection) and found.caller is not None]
    keys = {UUID(found.caller.key_id) for found in known if found.caller is not None and found.caller.key_id}
    try:
        good = await _threads.run(_good_keys, keys) if keys else set()
    except DatabaseError as exc:  # nobody can send either: the next round asks again
        log.warning("listener_keys_unknown", error=str(exc))
        return
    for connection in known:
        caller = connection.caller
        if connection.is_closing or caller is None or (caller.key_id and UUID(caller.key_id) in good):
            continue
        try:
            roles.require(await aauthenticate(connection.token), "messages", "create")
        except (Unauthenticated, Forbidden) as exc:
            connection.close(exc)
        except Overloaded:  # the database, again
            return


def _good_keys(ids: set[UUID]) -> set[UUID]:
    living = Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=Now()))
    return set(ApiKey.objects.filter(living, pk__in=ids).values_list("pk", flat=True))
