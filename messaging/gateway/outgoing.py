"""What goes to one client: frames in order, written by a task that is there only while there are any."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]

FULL_FRAMES = 1000  # more than these, or these bytes, and we neither read on nor hand out deliveries
FULL_BYTES = 256 * 1024
AMPLE = 0.5
SLOW_S = 8.0  # so long without room for one more frame


class Outgoing:
    """A bounded queue: whoever adds to it asks `is_full` first, or awaits `room`.

    `on_room` is called when it was full and is no more.
    """

    def __init__(self, send: Send, on_room: Callable[[], None]) -> None:
        self._send, self._on_room = send, on_room
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._stuck_since: float | None = None
        self._was_full = False
        self.is_broken = False

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_full(self) -> bool:
        return self._load >= 1

    @property
    def _load(self) -> float:
        return max(len(self._frames) / FULL_FRAMES, self._bytes / FULL_BYTES)

    def is_slow(self, now: float) -> bool:
        """Say whether the client has not taken a frame for too long."""
        return self._stuck_since is not None and now - self._stuck_since >= SLOW_S

    def push(self, frame: bytes) -> None:
        """Add a frame; what comes after the line broke is dropped."""
        if self.is_broken:
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        self._was_full = self._was_full or self.is_full
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def room(self) -> None:
        """Return once it is not full any more."""
        await self._below(1)

    async def ample_room(self) -> None:
        """Return once there is room for many."""
        await self._below(AMPLE)

    async def _below(self, share: float) -> None:
        while self._load >= share and not self.is_broken:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    async def flush(self, timeout_s: float) -> None:
        """Let go what is queued, within `timeout_s`, and write no more."""
        if self._writer is not None:
            await asyncio.wait((self._writer,), timeout=timeout_s)
        await self.aclose()

    async def aclose(self) -> None:
        """Write no more."""
        self._break()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None

    async def _write(self) -> None:
        try:
            while self._frames:
                frame = self._frames.popleft()
                self._stuck_since = time.monotonic()
                await self._send({"type": "websocket.send", "text": frame.decode()})
                self._stuck_since = None
                self._bytes -= len(frame)
                if not self.is_full:
                    self._tell_waiting()
                    if self._was_full:  # not for every frame: deliveries are claimed anew each time
                        self._was_full = False
                        self._on_room()
        except (OSError, RuntimeError):  # the line broke; who reads from it learns it, too
            self._break()
        self._writer = None

    def _break(self) -> None:
        self.is_broken = True
        self._frames.clear()
        self._bytes = 0
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
