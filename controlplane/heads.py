"""What the heads of requests ask for, remembered byte for byte: a caller says the same head again and again.

An application that can answer some requests on a short way makes a `Heads` of its own and offers it in the state
of its lifespan (`QUICK`); the protocol then parses a head it has seen before no more.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

QUICK = "quick"
END = b"\r\n\r\n"
MOST = 2_000  # heads: one for each caller and length of body
LONGEST = 2_048  # bytes

Answer = tuple[int, Sequence[tuple[bytes, bytes]], bytes]  # status, headers, body


class Quick(Protocol):
    """A request that was taken: its answer, once `done` is."""

    done: Any  # a future

    def answer(self) -> Answer: ...


Take = Callable[[bytes], Quick | None]


class Head(NamedTuple):
    """What was understood of a head: what takes its body, and how many bytes that has."""

    take: Take
    length: int


class Heads:
    """The heads that the application has answered on its short way; the one remembered first makes room."""

    def __init__(self, prepare: Callable[[Any], Take | None]) -> None:
        """`prepare` reads an ASGI scope and returns what takes such a request's body, or None.

        It may look at nothing but what the head says, and `take` must decide anew each time who may do what.
        """
        self.prepare = prepare
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head that `data` begins with, and the body, if it is one whole request of a known head."""
        end = data.find(END) + len(END)
        head = self._known.get(data[:end])
        return (head, data[end:]) if head is not None and len(data) - end == head.length else None

    def remember(self, data: bytes, body: bytes, take: Take) -> None:
        """Remember the head of `data`, if that is the head and `body` as it came, and nothing else."""
        end = data.find(END) + len(END)
        if end > LONGEST or data[end:] != body:
            return  # other requests behind it, or a body that was cut in chunks
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[data[:end]] = Head(take, len(body))


NOTHING = Heads(lambda scope: None)
