"""How much a listener puts up with; no sender can make it hold more, or wait longer."""

from dataclasses import dataclass

from endpoints.errors import Overloaded

MAX_HELD_BYTES = 96 * 1024 * 1024  # over all connections of a process
BEFORE_AUTH_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds, and how many of each there may be at once."""

    auth_s: float = 10.0  # from the connection to the caller being known, TLS included
    frame_s: float = 30.0  # from the first byte of a frame to its last
    idle_s: float = 300.0  # with nothing coming and nothing owed
    slow_s: float = 15.0  # that answers wait for a peer which does not read them
    connections: int = 1000
    per_address: int = 256
    unacknowledged: int = 2000  # messages of a connection that are not stored yet; then it is read no further
    unacknowledged_bytes: int = 8 * 1024 * 1024


class Held:
    """How many bytes of frames the connections of a process hold together; one loop's alone."""

    def __init__(self, limit: int = MAX_HELD_BYTES) -> None:
        self._limit = limit
        self.bytes = 0

    def change(self, by: int) -> None:
        """Count `by` bytes more, or fewer; raises Overloaded when that is too much, with nothing counted."""
        if by > 0 and self.bytes + by > self._limit:
            raise Overloaded("too many bytes of messages are being read, try again in a second", retry_after_s=1)
        self.bytes += by
