"""What every measurement sends: a message of about 450 bytes."""

import orjson

BODY = orjson.dumps(
    {
        "order": 4711,
        "customer": {"id": "c-10023", "name": "Example GmbH", "country": "DE"},
        "lines": [{"sku": f"A-{number}", "quantity": number, "price": 19.95} for number in range(1, 7)],
        "note": "Leave at the back door; ring twice and wait for an answer before you go. " * 2,
    }
)
ENVELOPE = orjson.dumps(
    {
        "source_system": "source",
        "target_system": "target",
        "event_type": "order.created",
        "payload": orjson.Fragment(BODY),
    }
)


def request(host: str, path: str, body: bytes, key: str = "") -> bytes:
    """Return the bytes of one whole POST."""
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return f"{head}\r\n\r\n".encode() + body
