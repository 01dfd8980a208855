"""One control plane delivers to the TCP listener of another: nothing but an endpoint's config is needed."""

import pytest

from endpoints.transports import make_transport
from endpoints.transports.base import AckLevel, ErrorClass, Secret, TransportError
from tests.contract.peers import address, outgoing
from tests.listening.conftest import Ways


@pytest.mark.parametrize("framing", ["line", "length"])
async def test_a_message_sent_on_is_stored_once_under_its_own_id(ways: Ways, framing: str) -> None:
    """A repetition is a duplicate there, a wrong token an `auth` error, what it refuses a nack with its reason."""
    slug = f"onward-{framing}"
    ways.register(slug)
    token = ways.key("operator", system=slug)
    port = ways.listener(slug, kind="tcp", framing=framing)["port"]
    config = {"framing": framing, "reply": "ack", "body": "message"}
    plain = {"protocol": "tcp", "port": port, "config": config}
    payload = '{"n": 1,\n "text": "Grüße \U0001f30d"}'.encode()

    transport = make_transport(address(**plain, credential=Secret("c1", "onward", "bearer", {"token": token})))
    await transport.open()
    try:
        for _ in range(2):
            reply = await transport.send(outgoing(payload=payload, message_id=f"m-{framing}", headers={"k": "v"}))
        assert await transport.probe()
        with pytest.raises(TransportError) as nack:
            await transport.send(outgoing(payload=b"1", message_id="a/slash", content_type="application/json"))
    finally:
        await transport.aclose()
    wrong = make_transport(address(**plain, credential=Secret("c1", "onward", "bearer", {"token": "cp_no_key"})))
    await wrong.open()
    try:
        with pytest.raises(TransportError) as refused:
            await wrong.send(outgoing(payload=payload))
    finally:
        await wrong.aclose()

    assert reply.ack_level is AckLevel.TRANSPORT
    assert b'"duplicate"' in reply.body
    assert ways.payloads(slug) == ['{"n":1,"text":"Grüße \U0001f30d"}'.encode()]
    assert nack.value.error_class is ErrorClass.NACK
    assert "invalid" in nack.value.detail
    assert refused.value.error_class is ErrorClass.AUTH
