"""What has to arrive as it was sent: text of every plane, bytes of every value, sizes to the cap, exact numbers."""

import random

CAP = 1024 * 1024
PLANES = "".join(chr(plane * 0x10000 + low) for plane in range(17) for low in (0x41, 0x0FFF, 0xE9A7, 0xFFFD))
SIZES = (0, 1, 125, 126, 65_507, 65_535, 65_536, CAP)

BYTES: list[bytes] = [
    *(random.Random(size).randbytes(size) for size in SIZES),
    bytes(range(256)),
    bytes(1000),
    PLANES.encode(),
    "\ud7ff\ue000\ufeff\uffff\U0010ffff\x7f\u2028".encode(),
    "\U0001f30d".encode() * 200_000,
    b"\xff\xfe\x00\r\n\x1c\r\x0b",
]
# Numbers of which a double knows no better, and ways to write one that another writer would choose otherwise.
NUMBERS = (
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "9007199254740993",
    "1e2",
    "1E+2",
    "100.0",
    "0.10",
    "-0.0",
    "5e-324",
    "1.7976931348623157e308",
    "3.14159265358979323846264338327950288419716939937510",
    "0.1000000000000000055511151231257827021181583404541015625",
)
JSON: list[str] = [
    "[" + ",".join(NUMBERS) + "]",
    *NUMBERS[:5],
    '{"text":"' + PLANES + '","empty":"","none":null,"yes":true}',
    '"' + "\U0001f30d" * 200_000 + '"',
    "[" * 30 + "]" * 30,
]
# Each with how it is sent over REST: as `payload`, or as `payload_base64`.
MESSAGES = [("bytes", body) for body in BYTES] + [("json", text.encode()) for text in JSON]
EVERYTHING = [body for _, body in MESSAGES]
