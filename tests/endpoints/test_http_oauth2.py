"""OAuth2 client credentials: one token for all, renewed once when it is refused."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from endpoints.access import secrets
from endpoints.models import Credential, CredentialKind, CredentialToken
from endpoints.transports import make_transport
from endpoints.transports.base import ErrorClass, Secret, Transport, TransportError
from tests.contract.peers import address, outgoing
from tests.servers.fixtures import http_receiver, token_server  # noqa: F401
from tests.servers.http import HttpReceiver
from tests.servers.oauth2 import TokenServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def guarded(http_receiver: HttpReceiver, token_server: TokenServer) -> HttpReceiver:  # noqa: F811
    """A receiver that takes only valid tokens."""
    http_receiver.answer(token_server.guard)
    return http_receiver


@pytest.fixture
def credential(token_server: TokenServer) -> Secret:  # noqa: F811
    data = {
        "token_url": token_server.token_url,
        "client_id": token_server.client[0],
        "client_secret": token_server.client[1],
    }
    blob, key_id = secrets.encrypt(data)
    row = Credential.objects.create(
        name="shop-token", kind=CredentialKind.OAUTH2_CLIENT, data=blob, encryption_key_id=key_id
    )
    return Secret(str(row.id), row.name, row.kind, data)


@pytest.fixture
async def processes(guarded: HttpReceiver, credential: Secret) -> AsyncIterator[list[Transport]]:
    """Five transports that share nothing but the database, as those of five processes would."""
    made = [make_transport(address(port=guarded.port, credential=credential)) for _ in range(5)]
    for transport in made:
        await transport.open()
    yield made
    for transport in made:
        await transport.aclose()


async def test_one_token_is_fetched_for_all_processes(
    processes: list[Transport],
    guarded: HttpReceiver,
    token_server: TokenServer,  # noqa: F811
) -> None:
    replies = await asyncio.gather(*(transport.send(outgoing()) for transport in processes for _ in range(5)))

    assert {reply.status_code for reply in replies} == {204}
    assert token_server.issued == ["token-1"]
    assert replies[0].request["headers"]["authorization"] == "Bearer $SHOP_TOKEN"


async def test_a_refused_token_is_renewed_once_by_one_and_the_message_sent_again(
    processes: list[Transport],
    token_server: TokenServer,  # noqa: F811
) -> None:
    await asyncio.gather(*(transport.send(outgoing()) for transport in processes))
    token_server.revoked.add("token-1")
    replies = await asyncio.gather(*(transport.send(outgoing()) for transport in processes for _ in range(3)))

    assert {reply.status_code for reply in replies} == {204}
    assert token_server.issued == ["token-1", "token-2"]


async def test_a_receiver_that_refuses_every_token_is_asked_twice_and_no_more(
    processes: list[Transport],
    guarded: HttpReceiver,
    token_server: TokenServer,  # noqa: F811
) -> None:
    guarded.answer(403)
    with pytest.raises(TransportError) as caught:
        await processes[0].send(outgoing())

    assert caught.value.error_class is ErrorClass.AUTH
    assert len(guarded.received) == 2
    assert len(token_server.issued) == 2


async def test_a_token_endpoint_that_refuses_us_is_an_auth_error_that_frees_the_renewal(
    processes: list[Transport],
    guarded: HttpReceiver,
    token_server: TokenServer,  # noqa: F811
) -> None:
    token_server.client = ("client", "another")
    for transport in processes[:2]:
        with pytest.raises(TransportError, match=r"no token \(status 401\)") as caught:
            await transport.send(outgoing())
        assert caught.value.error_class is ErrorClass.AUTH
    token_server.client = ("client", "s3cret-canary")

    assert (await processes[0].send(outgoing())).status_code == 204
    assert len(guarded.received) == 1


async def test_the_stored_token_is_encrypted(processes: list[Transport], token_server: TokenServer) -> None:  # noqa: F811
    await processes[0].send(outgoing())
    stored: Any = await asyncio.to_thread(CredentialToken.objects.get)

    assert b"token-1" not in bytes(stored.data)
    assert secrets.decrypt(stored.data) == {"token": "token-1"}
