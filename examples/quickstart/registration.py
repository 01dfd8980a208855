"""Registers the company, and only where that disturbs nobody; what is there already is left as it is."""

from collections.abc import Sequence
from typing import Any

from examples.quickstart.client import Client
from examples.quickstart.company import COMPANY, TAG, TOLD, Party
from examples.quickstart.peers.base import Peer

RETRY_SCHEDULE_S = [2, 5, 10, 20]  # short, so that retries and dead letters can be watched


async def why_not(client: Client) -> str:
    """Return why the company must not be registered here, or "" when it may.

    It may where there are no systems at all, or where ours are there and carry our tag.
    """
    systems = {system["slug"]: system for system in (await client.get("systems/?page_size=500"))["results"]}
    ours = [systems[party.slug] for party in COMPANY if party.slug in systems]
    taken = [system["slug"] for system in ours if TAG not in system["tags"]]
    if taken:
        return f"there are systems of these names already: {', '.join(taken)}"
    return "" if ours or not systems else "this database has systems of its own"


async def register(client: Client, peers: Sequence[Peer]) -> None:
    """Create what is missing and point the endpoints at our ports; nothing else is changed."""
    present = {system["slug"] for system in (await client.get(f"systems/?tag={TAG}&page_size=500"))["results"]}
    for party in COMPANY:
        if party.slug not in present:
            await client.post("systems/", _system(party))
    for peer in peers:
        await _ensure_endpoint(client, peer)
    if not (await client.get("notice-targets/"))["results"]:
        await client.post("notice-targets/", {"target": TOLD})


async def _ensure_endpoint(client: Client, peer: Peer) -> None:
    address = peer.address()
    query = f"endpoints/?system={peer.party.slug}&interface={peer.door.interface}&name=main"
    found = (await client.get(query))["results"]
    if not found:
        await client.post("endpoints/", _endpoint(peer) | address)
    elif found[0]["host"] == "127.0.0.1" and found[0]["port"] != address.get("port"):
        await client.patch(f"endpoints/{found[0]['id']}/", {"port": address.get("port")})


def _system(party: Party) -> dict[str, Any]:
    plain = {"slug": party.slug, "name": party.name, "description": party.description, "tags": [TAG]}
    return {**plain, "owner": None, "accepts_from": [], **party.fields}


def _endpoint(peer: Peer) -> dict[str, Any]:
    return {
        "system": peer.party.slug,
        "interface": peer.door.interface,
        "name": "main",
        "max_attempts": len(RETRY_SCHEDULE_S) + 1,
        "retry_schedule_s": RETRY_SCHEDULE_S,
    }
