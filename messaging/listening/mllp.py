"""HL7 v2 as far as a listener must know it: whose message this is, and the acknowledgement of it.

Source: HL7 v2.5.1, chapter 2 (2.9.2, original mode; 2.15.9 MSH, 2.15.8 MSA).
"""

from dataclasses import dataclass
from datetime import datetime

MAX_TEXT = 80  # MSA-3
MAX_SEGMENT = 4096  # of the header; what is longer names nobody
MARKS = b"\x0b\x1c"  # of a block: none may stand in our answer


@dataclass(frozen=True, slots=True)
class Header:
    """The first segment of a message; fields are numbered as HL7 numbers them, the separator being MSH-1."""

    separator: bytes
    fields: tuple[bytes, ...]

    def field(self, number: int) -> bytes:
        return self.fields[number - 1] if number - 1 < len(self.fields) else b""

    @property
    def control_id(self) -> bytes:
        return self.field(10)


def read_header(body: bytes) -> Header | None:
    """Return the header of an HL7 message, None for what is none, or whose separator could not stand in an answer."""
    separator = body[3:4]
    if len(body) < 8 or body[:3] != b"MSH" or not separator.decode("latin-1").isprintable():
        return None
    end = min((at for at in (body.find(b"\r"), body.find(b"\n")) if at >= 0), default=len(body))
    segment = body[: min(end, MAX_SEGMENT)].translate(None, MARKS)
    return Header(separator, (separator, *segment.split(separator)[1:]))


def acknowledgement(header: Header | None, code: bytes, text: str, now: datetime) -> bytes:
    """Return an ACK in original mode: sender and receiver changed places, MSA naming the message."""
    if header is None:
        header = Header(b"|", (b"|", rb"^~\&"))
    bar = header.separator
    event = header.field(9).split(header.field(2)[:1] or b"^")
    kind = b"ACK" if len(event) < 2 else (header.field(2)[:1] or b"^").join((b"ACK", event[1]))
    stamp = now.strftime("%Y%m%d%H%M%S").encode()
    msh = bar.join(
        (
            b"MSH",
            header.field(2),
            *(header.field(number) for number in (5, 6, 3, 4)),
            stamp,
            b"",
            kind,
            b"ACK" + header.control_id,
            header.field(11) or b"P",
            header.field(12) or b"2.5",
        )
    )
    # No separator of the message may stand in what we say of it.
    said = "".join(letter if letter.isalnum() or letter in " .,:;_-/()'" else " " for letter in text)[:MAX_TEXT]
    msa = bar.join((b"MSA", code, header.control_id, *([said.encode("ascii", "replace")] if said else [])))
    return msh + b"\r" + msa + b"\r"
